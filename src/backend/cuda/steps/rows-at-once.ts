// How many of the sequences that decode go into a step together. Hopper's kernels are made for up to 8, 16, 32,
// 64 and 128 tokens: one token more takes the next kernel, and a step that takes up to half as long again.
// Until enough sequences are there to be worth it, those that are too many take turns (generate/decode-turns.ts).

import type { ModelSpec } from "../../../model/spec.js";
import { type GemmCard, hasWgmma } from "../linears/gemm-launch.js";
import { layerLinears } from "../weights/layer-parts.js";
import { storageOf } from "../weights/linear-storage.js";

/** A decode step of a 7B, 4 bits in groups of 128, over some 256 keys on an H200: ms by rows (bench/NOTES.md); between them straight lines. */
const STEPS: readonly (readonly [rows: number, ms: number])[] = [
  [1, 1.0],
  [8, 1.83],
  [9, 2.7],
  [16, 2.98],
  [17, 3.6],
  [32, 4.1],
  [33, 4.7],
  [64, 5.7],
  [65, 7.4],
  [128, 9.4],
  [129, 10.9],
  [256, 15.2],
];
/** Taking turns has its price: rows that were queued ahead in vain, an uneven end. */
const LEAST_GAIN = 1.05;

/**
 * @param cards that the model lies on
 * @returns for so many sequences how many should go into a step; missing: always all of them
 */
export function rowsAtOnceOf(spec: ModelSpec, cards: readonly GemmCard[]): ((sequences: number) => number) | undefined {
  const { layers } = spec;
  const isUsual = layers.every((layer) =>
    layerLinears(layer).every(([, linear]) => {
      const storage = storageOf(linear);
      return storage.kind === "quantized" && storage.format.bits === 4;
    }),
  );
  return isUsual && cards.every((card) => hasWgmma(card)) ? bestRows : undefined;
}

function bestRows(sequences: number): number {
  const speed = (rows: number) => rows / stepTime(rows);
  const fewer = STEPS.map(([rows]) => rows).filter((rows) => rows < sequences);
  const best = fewer.reduce((most, rows) => (speed(rows) > speed(most) ? rows : most), 1);
  return speed(best) > speed(sequences) * LEAST_GAIN ? best : sequences;
}

/** Beyond the table its last line goes on. */
function stepTime(rows: number): number {
  const next = STEPS.findIndex(([known]) => known >= rows);
  const after = next < 0 ? STEPS.length - 1 : Math.max(1, next);
  const [[fromRows, from], [toRows, to]] = [STEPS[after - 1]!, STEPS[after]!];
  return from + ((to - from) * (rows - fromRows)) / (toRows - fromRows);
}
