// What a step answers, from what the device has found out about each row of logits. Greedy
// choices and log-probabilities of given ids need nothing else; everything else looks at the
// row itself, with the same code as the CPU backend.

import { topLogprobs } from "../../sampling/logprobs.js";
import { GREEDY, type SampleRequest } from "../../sampling/parameters.js";
import { sample } from "../../sampling/sample.js";
import type { Output, OutputRequest } from "../backend.js";
import { FACT_BYTES } from "./step-shape.js";

/** Fetches what the device still has of a row. */
export interface RowData {
  logits(): Promise<Float32Array>;
  hidden(): Float32Array;
}

/** "None": no id has a logit that is no number. */
const NO_ID = 0x7fffffff;

/** Whether the row itself must come to the host. */
export function needsLogits({ sample: request, topLogprobs: top, logits }: OutputRequest): boolean {
  return logits || top > 0 || (request !== null && !isPlainGreedy(request));
}

/** The largest logit, whatever came before: what the device chooses by itself. */
function isPlainGreedy({ parameters, mask }: SampleRequest): boolean {
  return (
    parameters.temperature === 0 &&
    mask === null &&
    parameters.repetitionPenalty === GREEDY.repetitionPenalty &&
    parameters.frequencyPenalty === 0 &&
    parameters.presencePenalty === 0 &&
    parameters.logitBias.length === 0 &&
    parameters.bannedIds.length === 0
  );
}

/**
 * @param facts sample.cu's RowFacts, one after the other
 * @throws {LogitsError} as sampling does, when logits are no numbers
 */
export async function finishOutput(request: OutputRequest, facts: DataView, index: number, row: RowData): Promise<Output> {
  const at = index * FACT_BYTES;
  const logSum = Math.log(facts.getFloat32(at + 4, true));
  const highest = facts.getFloat32(at, true);
  const sane = facts.getInt32(at + 16, true) === NO_ID && highest > -Infinity;
  const wantsNumbers = request.sample !== null || request.topLogprobs > 0 || request.target !== null;
  const logits = needsLogits(request) || (wantsNumbers && !sane) ? await row.logits() : null;
  if (logits && wantsNumbers && !sane) topLogprobs(logits, 1); // throws, and says which id
  const chosen =
    request.sample && (logits && needsLogits(request) && !isPlainGreedy(request.sample) ? sample(logits, request.sample) : null);
  const greedy = request.sample && !chosen;
  return {
    id: chosen?.id ?? (greedy ? facts.getInt32(at + 12, true) : null),
    logprob: chosen?.logprob ?? (greedy ? -logSum : null),
    targetLogprob: request.target === null ? null : facts.getFloat32(at + 8, true) - highest - logSum,
    top: request.topLogprobs > 0 && logits ? topLogprobs(logits, request.topLogprobs) : [],
    logits: request.logits && logits ? Float32Array.from(logits) : null,
    hidden: request.hidden ? Float32Array.from(row.hidden()) : null,
  };
}
