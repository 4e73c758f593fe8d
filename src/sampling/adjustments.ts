// Penalties, biases and bans as a short list of changes, for backends whose logits lie where the
// host does not reach: one entry per id, in place of a pass over the vocabulary. The token mask
// is not among them: it may name every id.

import type { SampleRequest } from "./parameters.js";
import { visitOccurring, visitRepeated } from "./penalties.js";

/** What happens to one id's logit: `logit > 0 ? logit / factor : logit * factor`, then `+ add`. */
export interface Adjustment {
  factor: number;
  /** −∞: never chosen. */
  add: number;
}

/**
 * Tells every change that a request makes before mask and temperature, each id once, all of them in the vocabulary.
 *
 * @param newer so many ids follow its history that are not known yet; then no occurrences may be penalised
 */
export function visitAdjustments(
  request: SampleRequest,
  vocabSize: number,
  visit: (id: number, factor: number, add: number) => void,
  newer = 0,
): void {
  const { frequencyPenalty, presencePenalty } = request.parameters;
  if (frequencyPenalty !== 0 || presencePenalty !== 0) {
    for (const [id, { factor, add }] of collectAdjustments(request, vocabSize, newer)) visit(id, factor, add);
    return;
  }
  // As nearly always: only the few ids with a bias or a ban may meet on one with a repetition.
  const added = addedOf(request, vocabSize);
  const few = added.size > 0;
  const onRepeated = (id: number, strength: number): void => {
    visit(id, strength, few ? (added.get(id) ?? 0) : 0);
    if (few) added.delete(id);
  };
  repeated(request, vocabSize, onRepeated, newer);
  for (const [id, add] of added) visit(id, 1, add);
}

/** What biases and bans add, by id. */
function addedOf({ parameters: { logitBias, bannedIds } }: SampleRequest, vocabSize: number): Map<number, number> {
  const added = new Map<number, number>();
  for (const [id, bias] of logitBias) if (id < vocabSize) added.set(id, (added.get(id) ?? 0) + bias);
  for (const id of bannedIds) if (id < vocabSize) added.set(id, -Infinity);
  return added;
}

/** The same by id. */
export function collectAdjustments(request: SampleRequest, vocabSize: number, newer = 0): Map<number, Adjustment> {
  const { parameters, history, promptLength } = request;
  const changes = new Map<number, Adjustment>();
  const change = (id: number): Adjustment => {
    const known = changes.get(id);
    if (known) return known;
    const fresh = { factor: 1, add: 0 };
    changes.set(id, fresh);
    return fresh;
  };
  repeated(
    request,
    vocabSize,
    (id, strength) => {
      change(id).factor = strength;
    },
    newer,
  );
  for (const [id, bias] of parameters.logitBias) if (id < vocabSize) change(id).add += bias;
  visitOccurring(vocabSize, history.subarray(promptLength), parameters, scratchFor(vocabSize), (id, penalty) => {
    change(id).add -= penalty;
  });
  for (const id of parameters.bannedIds) if (id < vocabSize) change(id).add = -Infinity;
  return changes;
}

function repeated(
  { history, parameters }: SampleRequest,
  vocabSize: number,
  visit: (id: number, strength: number) => void,
  newer: number,
): void {
  visitRepeated(vocabSize, history, parameters, scratchFor(vocabSize), visit, newer);
}

let latest = new Int32Array();

/** All zero between uses. */
function scratchFor(vocabSize: number): Int32Array {
  if (latest.length !== vocabSize) latest = new Int32Array(vocabSize);
  return latest;
}
