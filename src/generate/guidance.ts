// Classifier-free guidance: two prompts, one answer. Every token is chosen from a mixture of what
// the model says after the prompt and after the negative prompt, each followed by the same
// answer: log p = (1 − scale) · log p(negative) + scale · log p(prompt). A scale of 1 is the
// prompt alone, more than 1 moves away from the negative prompt, 0 is the negative prompt alone.

import { logitSums } from "../sampling/logprobs.js";

/**
 * Log-probability below which the negative prompt's opinion counts no further: a scale above 1
 * would otherwise make an id that it finds impossible infinitely likely.
 */
const LEAST_LOGPROB = -1e4;

/**
 * The mixture as logits `[vocab]`, which the ordinary sampling takes from there: not normalised.
 *
 * @param prompt logits after the prompt and the answer so far, `[vocab]`
 * @param negative logits after the negative prompt and the answer so far, `[vocab]`
 * @throws {LogitsError} when either holds NaN or +∞, or nothing above −∞
 */
export function mixGuidance(prompt: Float32Array, negative: Float32Array, scale: number): Float32Array {
  const [wanted, unwanted] = [logitSums(prompt), logitSums(negative)];
  const mixed = new Float32Array(prompt.length);
  for (let id = 0; id < mixed.length; id++) {
    const logprob = prompt[id]! - wanted.largest - wanted.logSum;
    const against = Math.max(negative[id]! - unwanted.largest - unwanted.logSum, LEAST_LOGPROB);
    mixed[id] = (1 - scale) * against + (scale === 0 ? 0 : scale * logprob);
  }
  return mixed;
}
