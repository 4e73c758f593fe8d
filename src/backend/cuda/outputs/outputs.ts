// What a step answers, from what the device has found out about each row of logits. Tokens that
// it chose and log-probabilities of given ids need nothing else; everything else looks at the
// row itself, with the same code as the CPU backend.

import { NoTokenAllowedError } from "../../../sampling/errors.js";
import { topLogprobs } from "../../../sampling/logprobs.js";
import { sample } from "../../../sampling/sample.js";
import type { Output, OutputRequest } from "../../backend.js";
import { FACT_BYTES } from "../steps/step-shape.js";

/** Fetches what the device still has of a row. */
export interface RowData {
  readonly vocabSize: number;
  logits(): Promise<Float32Array>;
  hidden(): Float32Array;
}

/** "None": no id has a logit that is no number. */
const NO_ID = 0x7fffffff;

/**
 * Whether the row itself must come to the host.
 *
 * @param chosen the device chooses the token
 */
export function needsLogits({ sample: request, topLogprobs: top, logits }: OutputRequest, chosen: boolean): boolean {
  return logits || top > 0 || (request !== null && !chosen);
}

/**
 * @param chosen the device has chosen the token
 * @param facts sample.cu's RowFacts, one after the other
 * @throws {LogitsError} as sampling does, when logits are no numbers
 * @throws {NoTokenAllowedError} when mask and banned ids left nothing
 */
export async function finishOutput(
  request: OutputRequest,
  chosen: boolean,
  facts: DataView,
  index: number,
  row: RowData,
): Promise<Output> {
  const fact = readFacts(facts, index);
  const sane = fact.bad === NO_ID && fact.highest > -Infinity;
  const wantsNumbers = request.sample !== null || request.topLogprobs > 0 || request.target !== null;
  const logits = needsLogits(request, chosen) || (wantsNumbers && !sane) ? await row.logits() : null;
  if (logits && wantsNumbers && !sane) topLogprobs(logits, 1); // throws, and says which id
  const normaliser = fact.highest + Math.log(fact.sum);
  return {
    ...choice(request, chosen ? fact : null, normaliser, logits, row.vocabSize),
    targetLogprob: request.target === null ? null : fact.target - normaliser,
    top: request.topLogprobs > 0 && logits ? topLogprobs(logits, request.topLogprobs) : [],
    logits: request.logits && logits ? Float32Array.from(logits) : null,
    hidden: request.hidden ? Float32Array.from(row.hidden()) : null,
  };
}

/** Whether an output needs nothing but its facts, and they are sound. */
export function isAnswered(request: OutputRequest, chosen: boolean, facts: DataView, index: number): boolean {
  const { bad, highest } = readFacts(facts, index);
  return !needsLogits(request, chosen) && bad === NO_ID && highest > -Infinity;
}

interface RowFacts {
  readonly highest: number;
  /** Of exp(logit − highest). */
  readonly sum: number;
  readonly target: number;
  readonly bad: number;
  readonly chosenId: number;
  readonly chosenLogit: number;
}

function readFacts(facts: DataView, index: number): RowFacts {
  const at = index * FACT_BYTES;
  return {
    highest: facts.getFloat32(at, true),
    sum: facts.getFloat32(at + 4, true),
    target: facts.getFloat32(at + 8, true),
    bad: facts.getInt32(at + 16, true),
    chosenId: facts.getInt32(at + 20, true),
    chosenLogit: facts.getFloat32(at + 24, true),
  };
}

function choice(
  { sample: request }: OutputRequest,
  fact: RowFacts | null,
  normaliser: number,
  logits: Float32Array | null,
  vocabSize: number,
): { id: number | null; logprob: number | null } {
  if (!request) return { id: null, logprob: null };
  if (!fact) return sample(logits!, request);
  if (fact.chosenId >= 0) return { id: fact.chosenId, logprob: fact.chosenLogit - normaliser };
  const { parameters, mask } = request;
  throw new NoTokenAllowedError({ vocabSize, bannedIds: parameters.bannedIds.length, masked: mask !== null });
}
