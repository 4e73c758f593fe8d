// Rotary position embedding in all its variants, from the formulas of Hugging Face
// transformers (modeling_rope_utils) and the papers behind them, in f64. Parameters carry the
// names of config.json.

/** What config.json says of the rotation (`rope_type` and its fields), nothing defaulted. */
export type ReferenceRope = { readonly theta: number } & (
  | { readonly type: "default" }
  | { readonly type: "linear"; readonly factor: number }
  /** ExLlama's static NTK scaling: theta · alpha^(d / (d − 2)). */
  | { readonly type: "ntk"; readonly alpha: number }
  /** theta grows with the sequence once it is longer than max_position_embeddings. */
  | { readonly type: "dynamic"; readonly factor: number; readonly maxPositions: number }
  | {
      readonly type: "llama3";
      readonly factor: number;
      readonly lowFreqFactor: number;
      readonly highFreqFactor: number;
      readonly originalPositions: number;
    }
  | {
      readonly type: "yarn";
      readonly factor: number;
      readonly originalPositions: number;
      readonly betaFast: number;
      readonly betaSlow: number;
      /** `null`: suggested by `factor` and, where both are given, the two mscales. */
      readonly attentionFactor: number | null;
      readonly mscale: number | null;
      readonly mscaleAllDim: number | null;
      readonly truncate: boolean;
    }
);

export interface Rotation {
  /** Radians per position of pair i = (x[i], x[i + headDim / 2]), `[headDim / 2]`. */
  readonly frequencies: Float64Array;
  /** Multiplies cos and sin. */
  readonly amplitude: number;
}

/** @param length tokens of the sequence so far: only `dynamic` depends on it */
export function rotationOf(rope: ReferenceRope, headDim: number, length: number): Rotation {
  switch (rope.type) {
    case "default":
      return { frequencies: plain(rope.theta, headDim), amplitude: 1 };
    case "linear":
      return { frequencies: plain(rope.theta, headDim).map((f) => f / rope.factor), amplitude: 1 };
    case "ntk":
      return { frequencies: plain(rope.theta * rope.alpha ** (headDim / (headDim - 2)), headDim), amplitude: 1 };
    case "dynamic": {
      const reach = Math.max(length, rope.maxPositions);
      const growth = (rope.factor * reach) / rope.maxPositions - (rope.factor - 1);
      return { frequencies: plain(rope.theta * growth ** (headDim / (headDim - 2)), headDim), amplitude: 1 };
    }
    case "llama3":
      return { frequencies: plain(rope.theta, headDim).map((f) => llama3(f, rope)), amplitude: 1 };
    case "yarn":
      return yarn(rope, headDim);
  }
}

function plain(theta: number, headDim: number): Float64Array {
  return Float64Array.from({ length: headDim / 2 }, (_, i) => theta ** ((-2 * i) / headDim));
}

/** Long waves are stretched by `factor`, short ones kept, those between blended. */
function llama3(frequency: number, rope: Extract<ReferenceRope, { type: "llama3" }>): number {
  const turns = (rope.originalPositions * frequency) / (2 * Math.PI);
  if (turns < rope.lowFreqFactor) return frequency / rope.factor;
  if (turns > rope.highFreqFactor) return frequency;
  const keep = (turns - rope.lowFreqFactor) / (rope.highFreqFactor - rope.lowFreqFactor);
  return (1 - keep) * (frequency / rope.factor) + keep * frequency;
}

/** YaRN (Peng et al. 2023): stretched and plain frequencies blended by a ramp over the pairs. */
function yarn(rope: Extract<ReferenceRope, { type: "yarn" }>, headDim: number): Rotation {
  // The pair (as a real number) that makes `turns` full turns within the original context.
  const pairWith = (turns: number) =>
    (headDim * Math.log(rope.originalPositions / (turns * 2 * Math.PI))) / (2 * Math.log(rope.theta));
  let low = pairWith(rope.betaFast);
  let high = pairWith(rope.betaSlow);
  if (rope.truncate) {
    low = Math.floor(low);
    high = Math.ceil(high);
  }
  low = Math.max(low, 0);
  high = Math.min(high, headDim - 1);
  if (low === high) high += 0.001;
  const frequencies = plain(rope.theta, headDim).map((frequency, pair) => {
    const stretched = Math.min(Math.max((pair - low) / (high - low), 0), 1);
    return stretched * (frequency / rope.factor) + (1 - stretched) * frequency;
  });
  const suggested = (mscale: number) => (rope.factor <= 1 ? 1 : 0.1 * mscale * Math.log(rope.factor) + 1);
  const { mscale, mscaleAllDim } = rope;
  const amplitude = mscale && mscaleAllDim ? suggested(mscale) / suggested(mscaleAllDim) : suggested(1);
  return { frequencies, amplitude: rope.attentionFactor ?? amplitude };
}
