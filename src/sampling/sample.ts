// One token from one row of logits, in ExLlama's order: repetition penalty, logit bias,
// frequency and presence penalties, the token mask, banned ids, temperature, top-k, top-p,
// min-p, typical, the draw. It is a pure function of its arguments: backends that have logits
// in host memory call it, backends that sample on the device are held to it.

import { type Candidates, gather, selectBest, totalWeight, weigh } from "./candidates.js";
import { draw } from "./draw.js";
import { NoTokenAllowedError } from "./errors.js";
import { type LogitSums, largestLogit, logitSums } from "./logprobs.js";
import type { SampleRequest } from "./parameters.js";
import { applyOccurrencePenalties, applyRepetitionPenalty } from "./penalties.js";
import { uniformAt } from "./philox.js";
import { applyLogitBias, applyMask, banIds } from "./restrictions.js";
import { keepMinP, keepTopK, keepTopP, keepTypical } from "./truncation.js";

/** Buffers of one vocabulary size; sampling is synchronous, so one set serves every caller of a thread. */
interface Workspace {
  readonly candidates: Candidates;
  /** `[vocab]`, all zero between uses. */
  readonly counts: Int32Array;
  /** `[vocab]` */
  readonly nearness: Float64Array;
}

/**
 * Chooses the token that follows.
 *
 * @param logits `[vocab]`, left as they are
 * @param sums of these logits, where the backend has them already; otherwise they are computed
 * @returns the id and its log-probability under the plain logits
 * @throws {LogitsError} when the logits hold NaN or +∞, or nothing above −∞
 * @throws {NoTokenAllowedError} when mask and banned ids leave nothing
 */
export function sample(logits: Float32Array, request: SampleRequest, sums?: LogitSums): { id: number; logprob: number } {
  const { largest, logSum, largestId } = sums && Number.isFinite(sums.largest + sums.logSum) ? sums : logitSums(logits);
  const id = isPlainGreedy(request) ? (largestId ?? logits.indexOf(largest)) : chooseAdjusted(logits, request);
  return { id, logprob: logits[id]! - largest - logSum };
}

/**
 * The likeliest of the tokens among which the draw would take one, best first, the lowest id
 * among equals: what beams branch into. A temperature of 0 counts as 1 and drops nothing.
 *
 * @param logits `[vocab]`, left as they are
 * @returns at most `count`, with their log-probabilities among all that were left to choose from
 * @throws as {@link sample} does
 */
export function likeliest(logits: Float32Array, request: SampleRequest, count: number): { id: number; logprob: number }[] {
  largestLogit(logits);
  const workspace = workspaceFor(logits.length);
  const { candidates } = workspace;
  const adjusted = adjust(logits, request, workspace);
  const largest = adjusted[bestId(adjusted, request)]!;
  const temperature = request.parameters.temperature || 1;
  if (request.parameters.temperature > 0) truncate(workspace, largest, request);
  else {
    gather(candidates);
    weigh(candidates, largest, temperature);
  }
  const logTotal = Math.log(totalWeight(candidates));
  const kept = selectBest(candidates.ids, candidates.count, adjusted, null, count);
  return Array.from(candidates.ids.subarray(0, kept))
    .sort((a, b) => adjusted[b]! - adjusted[a]! || a - b)
    .map((id) => ({ id, logprob: (adjusted[id]! - largest) / temperature - logTotal }));
}

/** Greedy decoding with nothing that changes a logit: the answer is the first largest one. */
function isPlainGreedy({ parameters, mask, history }: SampleRequest): boolean {
  const { temperature, repetitionPenalty, frequencyPenalty, presencePenalty, logitBias, bannedIds } = parameters;
  const penalised = repetitionPenalty !== 1 || frequencyPenalty !== 0 || presencePenalty !== 0;
  return (
    temperature === 0 && !(penalised && history.length > 0) && logitBias.length === 0 && bannedIds.length === 0 && mask === null
  );
}

function chooseAdjusted(logits: Float32Array, request: SampleRequest): number {
  const workspace = workspaceFor(logits.length);
  const adjusted = adjust(logits, request, workspace);
  const best = bestId(adjusted, request);
  return request.parameters.temperature === 0 ? best : drawOne(workspace, adjusted[best]!, request);
}

/** Everything that comes before the temperature: the logits among which greedy decoding takes the largest. */
function adjust(logits: Float32Array, request: SampleRequest, { candidates, counts }: Workspace): Float64Array {
  const { parameters, history, promptLength, mask } = request;
  const adjusted = candidates.logits;
  adjusted.set(logits);
  applyRepetitionPenalty(adjusted, history, parameters, counts);
  applyLogitBias(adjusted, parameters.logitBias);
  applyOccurrencePenalties(adjusted, history.subarray(promptLength), parameters, counts);
  if (mask) applyMask(adjusted, mask);
  banIds(adjusted, parameters.bannedIds);
  return adjusted;
}

/** The id of the largest logit, the lowest among equals. */
function bestId(adjusted: Float64Array, { parameters, mask }: SampleRequest): number {
  let best = -1;
  let largest = -Infinity;
  for (let id = 0; id < adjusted.length; id++) {
    if (adjusted[id]! > largest) {
      largest = adjusted[id]!;
      best = id;
    }
  }
  if (best >= 0) return best;
  throw new NoTokenAllowedError({
    vocabSize: adjusted.length,
    bannedIds: parameters.bannedIds.length,
    masked: mask !== null,
  });
}

function drawOne(workspace: Workspace, largest: number, request: SampleRequest): number {
  truncate(workspace, largest, request);
  return draw(workspace.candidates, uniformAt(request.seed, request.position));
}

/** Leaves the tokens among which the draw takes one, with their weights. */
function truncate({ candidates, nearness }: Workspace, largest: number, { parameters }: SampleRequest): void {
  const { temperature, topK, topP, minP, typical } = parameters;
  gather(candidates);
  if (topK > 0) keepTopK(candidates, topK);
  weigh(candidates, largest, temperature);
  if (topP < 1) keepTopP(candidates, topP);
  if (minP > 0) keepMinP(candidates, minP);
  if (typical > 0 && typical < 1) keepTypical(candidates, typical, nearness);
}

let latest: Workspace | null = null;

function workspaceFor(vocabSize: number): Workspace {
  if (latest?.counts.length === vocabSize) return latest;
  latest = {
    candidates: {
      ids: new Int32Array(vocabSize),
      count: 0,
      logits: new Float64Array(vocabSize),
      weights: new Float64Array(vocabSize),
    },
    counts: new Int32Array(vocabSize),
    nearness: new Float64Array(vocabSize),
  };
  return latest;
}
