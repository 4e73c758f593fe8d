// Penalties on what has been said already. Which ids they touch and how much is told to a visitor;
// on the host they change logits in place, `[vocab]` f64.

import type { SamplingParameters } from "./parameters.js";

/**
 * ExLlama's repetition penalty (rep_penalty.cpp): from the newest id to the oldest, the first
 * `penaltySustain` get the full penalty, the next `penaltyDecay` one that falls linearly
 * towards 1; an id counts once, at its newest place.
 *
 * @param seen scratch, `[vocab]`, all zero before and after
 */
export function applyRepetitionPenalty(
  logits: Float64Array,
  history: Int32Array,
  parameters: SamplingParameters,
  seen: Int32Array,
): void {
  visitRepeated(logits.length, history, parameters, seen, (id, strength) => {
    const logit = logits[id]!;
    logits[id] = logit > 0 ? logit / strength : logit * strength;
  });
}

/**
 * Every id that the repetition penalty touches, once, with its strength.
 *
 * @param newer so many ids follow that are not known yet: those of the history are older by that
 */
export function visitRepeated(
  vocabSize: number,
  history: Int32Array,
  parameters: SamplingParameters,
  seen: Int32Array,
  visit: (id: number, strength: number) => void,
  newer = 0,
): void {
  const newest = history.length - 1 + newer;
  const reach = penaltyReach(parameters, newest + 1);
  for (let age = newer; age < reach; age++) {
    const id = history[newest - age]!;
    if (id >= vocabSize || seen[id] !== 0) continue;
    seen[id] = 1;
    visit(id, strengthAt(age, parameters));
  }
  for (let age = newer; age < reach; age++) seen[history[newest - age]!] = 0;
}

/** How many of the newest of `length` ids the repetition penalty looks at. */
export function penaltyReach({ repetitionPenalty, penaltySustain, penaltyDecay }: SamplingParameters, length: number): number {
  if (repetitionPenalty === 1) return 0;
  return penaltySustain === -1 ? length : Math.min(length, penaltySustain + penaltyDecay);
}

/** The repetition penalty of an id within reach that is so much older than the newest. */
export function strengthAt(age: number, { repetitionPenalty, penaltySustain, penaltyDecay }: SamplingParameters): number {
  if (penaltySustain === -1 || age < penaltySustain) return repetitionPenalty;
  return repetitionPenalty + ((1 - repetitionPenalty) * (age - penaltySustain)) / penaltyDecay;
}

/**
 * OpenAI's frequency and presence penalties: logit − count · frequency − presence, where count
 * is how often the id was generated (the prompt does not count).
 *
 * @param counts scratch, `[vocab]`, all zero before and after
 */
export function applyOccurrencePenalties(
  logits: Float64Array,
  generated: Int32Array,
  parameters: SamplingParameters,
  counts: Int32Array,
): void {
  visitOccurring(logits.length, generated, parameters, counts, (id, penalty) => {
    logits[id]! -= penalty;
  });
}

/** Every id that frequency and presence penalties touch, once, with what is taken from its logit. */
export function visitOccurring(
  vocabSize: number,
  generated: Int32Array,
  { frequencyPenalty, presencePenalty }: SamplingParameters,
  counts: Int32Array,
  visit: (id: number, penalty: number) => void,
): void {
  if (frequencyPenalty === 0 && presencePenalty === 0) return;
  for (const id of generated) if (id < vocabSize) counts[id]!++;
  for (const id of generated) {
    const count = counts[id]!; // undefined for an id that the model cannot choose
    if (!count) continue;
    visit(id, count * frequencyPenalty + presencePenalty);
    counts[id] = 0;
  }
}
