// Rotary position embedding: RopeSpec → frequencies. Pair i of a head (elements i and
// i + headDim/2, rotate-half form) turns by position · inverseFrequencies[i].
//
// The formulas are those of transformers' `modeling_rope_utils.py`, whose results are the
// reference. It computes in single precision, and models were trained on what came out; at
// position 100,000 the last bit of a frequency is a hundredth of a radian. So every step is
// rounded to f32 here too.

import type { RopeSpec } from "./spec.js";

const f32 = Math.fround;

export interface RopeFrequencies {
  /** Radians per position, `[headDim / 2]`; each value is exact in f32. */
  readonly inverseFrequencies: Float64Array;
  /** cos and sin are multiplied by this. */
  readonly attentionFactor: number;
}

/**
 * @param headDim even
 * @param sequenceLength matters for dynamic scaling only: tokens of the sequence so far, those of this step included
 */
export function ropeFrequencies(rope: RopeSpec, headDim: number, sequenceLength: number): RopeFrequencies {
  switch (rope.kind) {
    case "default":
      return unscaled(plain(rope.theta, headDim));
    case "linear":
      return unscaled(plain(rope.theta, headDim).map((frequency) => f32(frequency / rope.factor)));
    case "ntk":
      return unscaled(plain(stretchedTheta(rope.theta, rope.alpha, headDim), headDim));
    case "dynamic": {
      const length = Math.max(sequenceLength, rope.originalContext);
      const stretch = (rope.factor * length) / rope.originalContext - (rope.factor - 1);
      return unscaled(plain(stretchedTheta(rope.theta, stretch, headDim), headDim));
    }
    case "llama3":
      return unscaled(plain(rope.theta, headDim).map((frequency) => llama3(rope, frequency)));
    case "yarn":
      return { inverseFrequencies: yarn(rope, headDim), attentionFactor: rope.attentionFactor };
  }
}

/** theta · alpha^(d / (d − 2)): the lowest frequency falls by alpha, the highest stays. */
export function stretchedTheta(theta: number, alpha: number, headDim: number): number {
  return theta * alpha ** (headDim / (headDim - 2));
}

function unscaled(inverseFrequencies: Float64Array): RopeFrequencies {
  return { inverseFrequencies, attentionFactor: 1 };
}

/** theta^(−2i/d) */
function plain(theta: number, headDim: number): Float64Array {
  return periods(theta, headDim).map((period) => f32(1 / period));
}

/** theta^(2i/d) */
function periods(theta: number, headDim: number): Float64Array {
  return Float64Array.from({ length: headDim / 2 }, (_, i) => f32(f32(theta) ** f32((2 * i) / headDim)));
}

/** Long waves are divided by the factor, short ones stay, those between are mixed. */
function llama3(rope: Extract<RopeSpec, { kind: "llama3" }>, frequency: number): number {
  const wavelength = (2 * Math.PI) / frequency;
  if (wavelength < rope.originalContext / rope.highFreqFactor) return frequency;
  if (wavelength > rope.originalContext / rope.lowFreqFactor) return f32(frequency / rope.factor);
  const smooth = (rope.originalContext / wavelength - rope.lowFreqFactor) / (rope.highFreqFactor - rope.lowFreqFactor);
  return f32(((1 - smooth) * frequency) / rope.factor + smooth * frequency);
}

/** Pairs that turn often within the original context stay, those that turn seldom are divided by the factor. */
function yarn(rope: Extract<RopeSpec, { kind: "yarn" }>, headDim: number): Float64Array {
  const [low, high] = yarnRange(rope, headDim);
  return periods(rope.theta, headDim).map((period, i) => {
    const scaled = Math.min(1, Math.max(0, f32((i - low) / (high - low))));
    return f32(f32(1 / f32(rope.factor * period)) * scaled + f32(1 / period) * (1 - scaled));
  });
}

/** Pair numbers between which yarn goes from "stays" to "divided". */
function yarnRange(rope: Extract<RopeSpec, { kind: "yarn" }>, headDim: number): [low: number, high: number] {
  const pairTurning = (times: number) =>
    (headDim * Math.log(rope.originalContext / (times * 2 * Math.PI))) / (2 * Math.log(rope.theta));
  const [first, last] = [pairTurning(rope.betaFast), pairTurning(rope.betaSlow)];
  const low = Math.max(rope.truncate ? Math.floor(first) : first, 0);
  const high = Math.min(rope.truncate ? Math.ceil(last) : last, headDim - 1);
  // Equal ends would divide by zero; the reference moves them apart by as much.
  return [low, high === low ? high + 0.001 : high];
}
