// The sizes that all layers of a model share, from config.json.

import type { CheckpointHeaders } from "../checkpoint/checkpoint.js";
import type { Architecture } from "./architectures/architecture.js";
import type { ConfigValues } from "./config-values.js";
import { ModelConfigError } from "./errors.js";

/** What the largest known models have, times some. Sizes beyond are typing errors or attacks. */
const LIMITS = {
  layers: { min: 1, max: 10_000 },
  hidden: { min: 1, max: 2 ** 20 },
  intermediate: { min: 1, max: 2 ** 22 },
  heads: { min: 1, max: 2 ** 14 },
  headDim: { min: 2, max: 2 ** 13 },
  vocabulary: { min: 1, max: 2 ** 24 },
  epsilon: { min: 0, max: 1 },
} as const;

export interface Sizes {
  readonly hidden: number;
  readonly intermediate: number;
  readonly layers: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly vocabulary: number;
  readonly epsilon: number;
}

/** @throws {ModelConfigError} sizes that are missing, out of range, or do not go together */
export function readSizes(config: ConfigValues, { defaultHeadDim }: Architecture, tensors: CheckpointHeaders["tensors"]): Sizes {
  const hidden = config.integer("hidden_size", LIMITS.hidden);
  const heads = config.integer("num_attention_heads", LIMITS.heads);
  const headDim = readHeadDim(config, hidden, heads, defaultHeadDim);
  // Old configs leave the number out where it equals the heads, and some where it equals a
  // default of their time: the first layer's keys show which.
  const kvHeads = config.integer("num_key_value_heads", LIMITS.heads, shownKvHeads(tensors, headDim) ?? heads);
  if (heads % kvHeads !== 0)
    throw new ModelConfigError(`${config.where}: ${heads} attention heads cannot share ${kvHeads} key-value heads evenly`);
  return {
    hidden,
    heads,
    kvHeads,
    headDim,
    intermediate: config.integer("intermediate_size", LIMITS.intermediate),
    layers: config.integer("num_hidden_layers", LIMITS.layers),
    vocabulary: config.integer("vocab_size", LIMITS.vocabulary),
    epsilon: config.number("rms_norm_eps", LIMITS.epsilon, 1e-6),
  };
}

function readHeadDim(config: ConfigValues, hidden: number, heads: number, fallback: number | "split"): number {
  // An explicit null means hidden size / heads even where the architecture has a number of its own.
  const split = fallback === "split" || config.isNull("head_dim");
  if (!config.has("head_dim") && split && hidden % heads !== 0)
    throw new ModelConfigError(
      `${config.where}: hidden_size ${hidden} is not a multiple of ${heads} heads, and there is no head_dim`,
    );
  const headDim = config.integer("head_dim", LIMITS.headDim, split ? hidden / heads : fallback);
  if (headDim % 2 !== 0 || headDim > LIMITS.headDim.max)
    throw new ModelConfigError(
      `${config.where}: heads of ${headDim} cannot be rotated in pairs; an even head_dim up to ${LIMITS.headDim.max} is needed`,
    );
  return headDim;
}

function shownKvHeads(tensors: CheckpointHeaders["tensors"], headDim: number): number | null {
  const keys = "model.layers.0.self_attn.k_proj";
  const rows = tensors.get(`${keys}.weight`)?.shape[0] ?? tensors.get(`${keys}.qweight`)?.shape[1] ?? 0;
  const count = rows / headDim;
  return Number.isInteger(count) && count >= 1 && count <= LIMITS.heads.max ? count : null;
}
