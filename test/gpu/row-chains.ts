// Two to eight tokens in one launch from an attention to the next, in the engine: random models, several tokens of one sequence and one each of several,
// against the reference forward pass, and beside the same linears one by one.

import type { Card, CardSources } from "../../src/backend/cuda/cards/cards.js";
import type { KernelImage } from "../../src/backend/cuda/cards/device-context.js";
import { createCudaBackend } from "../../src/backend/cuda/index.js";
import type { CudaRuntime } from "../../src/backend/cuda/runtime.js";
import { Driver } from "../conformance/driver.js";
import { meanDifference } from "../reference/compare.js";
import { referenceLogits } from "../reference/forward.js";
import { makeSynthetic } from "../support/synthetic-checkpoint.js";
import { CHAINED_MODELS, MEAN_BOUND } from "./chains.js";
import type { Report } from "./report.js";

const TOKENS = 24;
const ROWS = [2, 3, 5, 8];
/** One step after the other. */
const STEPS = 4;

/** @param image of another card, whose path is checked in the place of the card's own */
export async function checkRowChains(
  sources: CardSources,
  cards: readonly Card[],
  report: Report,
  image: KernelImage | undefined,
): Promise<void> {
  const possible = image === undefined && cards.find(({ unusable }) => !unusable)!.capability.startsWith("9.");
  // Attention is a launch of its own: a long text has nothing new to it.
  for (const [name, model] of CHAINED_MODELS.filter(([, , ahead]) => ahead === undefined))
    await report.check(`few tokens in one launch, ${name}`, async () => {
      using checkpoint = makeSynthetic(model);
      const ids = Array.from({ length: TOKENS }, (_, i) => (i * 31 + 7) % model.vocab);
      const wanted = referenceLogits(checkpoint.truth, ids);
      const said: string[] = [];
      for (const chains of [true, false]) {
        const backend = createCudaBackend({ sources, image, chains });
        await using driver = await Driver.load(backend, checkpoint.folder, { cacheType: "f16", context: 256, maxSequences: 8 });
        let worst = 0;
        for (const rows of ROWS) {
          for (const [got, truth] of [await inChunks(driver, ids, rows, wanted), await sideBySide(driver, ids, rows, wanted)]) {
            const difference = meanDifference(got, truth);
            if (!(difference < MEAN_BOUND)) throw new Error(`${rows} rows off by ${difference}, allowed ${MEAN_BOUND}`);
            worst = Math.max(worst, difference);
          }
          const links = await linksOf(driver, rows);
          if (links !== (possible && chains ? model.layers + 1 : 0)) throw new Error(`${links} launches with ${rows} rows`);
        }
        said.push(`${(worst * 100).toFixed(2)} %`);
      }
      return said.join(", ");
    });
}

/** Logits. */
type Row = Float32Array | Float64Array;
type Logits = readonly [got: Float32Array[], truth: readonly Row[]];

/** So many tokens of one sequence at a time. */
async function inChunks(driver: Driver, ids: readonly number[], rows: number, wanted: readonly Row[]): Promise<Logits> {
  const sequence = driver.newSequence();
  const got = await driver.read(sequence, ids, () => ({ logits: true }), rows);
  driver.end(sequence);
  return [got.map(({ logits }) => logits!), wanted];
}

/** One token each of so many sequences, which hold different numbers of tokens. */
async function sideBySide(driver: Driver, ids: readonly number[], rows: number, wanted: readonly Row[]): Promise<Logits> {
  const sequences = Array.from({ length: rows }, () => driver.newSequence());
  for (const [i, sequence] of sequences.entries()) await driver.read(sequence, ids.slice(0, 1 + 2 * i), () => null);
  const got: Float32Array[] = [];
  const truth: Row[] = [];
  for (let step = 0; step < STEPS; step++) {
    truth.push(...sequences.map(({ length }) => wanted[length]!));
    const feeds = sequences.map((sequence) => ({
      sequence,
      ids: [ids[sequence.length]!],
      outputs: [{ index: 0, logits: true }],
    }));
    got.push(...(await driver.step(feeds)).map(([output]) => output!.logits!));
  }
  for (const sequence of sequences) driver.end(sequence);
  return [got, truth];
}

async function linksOf({ runtime }: Driver, rows: number): Promise<number> {
  const { kernels } = await (runtime as CudaRuntime).profile(rows, TOKENS);
  return kernels.filter(({ kernel }) => kernel.startsWith("linear_chain_rows")).reduce((sum, { launches }) => sum + launches, 0);
}
