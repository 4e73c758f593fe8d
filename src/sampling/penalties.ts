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

/** Every id that the repetition penalty touches, once, with its strength. */
export function visitRepeated(
  vocabSize: number,
  history: Int32Array,
  { repetitionPenalty, penaltySustain, penaltyDecay }: SamplingParameters,
  seen: Int32Array,
  visit: (id: number, strength: number) => void,
): void {
  if (repetitionPenalty === 1) return;
  const sustain = penaltySustain === -1 ? history.length : penaltySustain;
  const reach = Math.min(history.length, sustain + penaltyDecay);
  for (let age = 0; age < reach; age++) {
    const id = history[history.length - 1 - age]!;
    if (id >= vocabSize || seen[id] !== 0) continue;
    seen[id] = 1;
    visit(id, age < sustain ? repetitionPenalty : repetitionPenalty + ((1 - repetitionPenalty) * (age - sustain)) / penaltyDecay);
  }
  for (let age = 0; age < reach; age++) seen[history[history.length - 1 - age]!] = 0;
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
