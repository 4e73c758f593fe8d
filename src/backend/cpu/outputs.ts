// What a step answers. Rows of which only numbers are wanted (a target's log-probability) are
// finished by the workers, any number of them in one command; rows whose logits somebody
// looks at (sampling, top log-probabilities, copies) come a few at a time, and are looked at
// here before the next ones overwrite them.

import { type LogitSums, topLogprobs } from "../../sampling/logprobs.js";
import { sample } from "../../sampling/sample.js";
import type { BatchEntry, Output, OutputRequest } from "../backend.js";
import { OUTPUT_ROW_BYTES } from "./scratch.js";
import type { OutputRow } from "./step-writer.js";

/** Views of the buffers that outputs are read from. */
export interface OutputViews {
  /** [rows of a round, vocab] */
  readonly logits: Float32Array;
  /** [rows of a round, hidden], after the final norm */
  readonly hidden: Float32Array;
  /** [rows of a command] of OUTPUT_ROW_BYTES */
  readonly sums: DataView;
  readonly vocabSize: number;
  readonly hiddenSize: number;
}

/** One wanted output and where it belongs. */
export interface Wanted {
  readonly entry: number;
  readonly output: number;
  readonly request: OutputRequest;
  readonly row: OutputRow;
}

/** All wanted outputs of a batch: those that the workers finish alone, and those that are looked at. */
export function sortOutputs(batch: readonly BatchEntry[]): { quiet: Wanted[]; looked: Wanted[] } {
  const quiet: Wanted[] = [];
  const looked: Wanted[] = [];
  let first = 0;
  batch.forEach(({ tokens, outputs }, entry) => {
    outputs.forEach((request, output) => {
      const row = {
        row: first + request.index,
        target: request.target,
        sums: request.target !== null || request.sample !== null,
      };
      const looks = request.sample !== null || request.topLogprobs > 0 || request.logits || request.hidden;
      (looks ? looked : quiet).push({ entry, output, request, row });
    });
    first += tokens.length;
  });
  return { quiet, looked };
}

/**
 * @param index of the row within its command
 * @param round of the row within its round, or `null` where its logits are gone already
 */
export function readOutput({ request, row }: Wanted, views: OutputViews, index: number, round: number | null): Output {
  const targetLogprob = row.target === null ? null : readTarget(views.sums, index);
  if (round === null) return { id: null, logprob: null, targetLogprob, top: [], logits: null, hidden: null };
  const { vocabSize, hiddenSize } = views;
  const logits = views.logits.subarray(round * vocabSize, (round + 1) * vocabSize);
  const chosen = request.sample ? sample(logits, request.sample, readSums(views.sums, index)) : null;
  return {
    id: chosen?.id ?? null,
    logprob: chosen?.logprob ?? null,
    targetLogprob,
    top: request.topLogprobs > 0 ? topLogprobs(logits, request.topLogprobs) : [],
    // Copies out of the arena: slice() of a shared buffer's view would be shared with nobody, but typed so.
    logits: request.logits ? new Float32Array(logits) : null,
    hidden: request.hidden ? new Float32Array(views.hidden.subarray(round * hiddenSize, (round + 1) * hiddenSize)) : null,
  };
}

function readTarget(sums: DataView, index: number): number {
  const { largest, logSum } = readSums(sums, index);
  return sums.getFloat32(index * OUTPUT_ROW_BYTES + 16, true) - largest - logSum;
}

/** What the workers have summed of a row. */
function readSums(sums: DataView, index: number): LogitSums {
  const at = index * OUTPUT_ROW_BYTES;
  return {
    largest: sums.getFloat64(at, true),
    logSum: Math.log(sums.getFloat64(at + 8, true)),
    largestId: sums.getInt32(at + 20, true),
  };
}
