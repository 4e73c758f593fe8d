// The packing of the planner's worked examples: nothing padded, scratch of one fixed size,
// embeddings on the host. Its numbers can be checked with pencil and paper: Llama-2-13B, 4-bit
// g128, is 157.18 MiB per layer, 312.5 MiB for the head, 800 KiB of f16 KV per token.

import type { CacheType, Packing } from "../../src/memory/packing.js";
import type { PlanDevice } from "../../src/memory/plan.js";
import { GiB, MiB } from "../../src/memory/size.js";
import type { GatedMlpSpec, LayerSpec, LinearSpec } from "../../src/model/spec.js";

export const simplePacking = (scratch = 64 * MiB): Packing => ({
  name: "cuda",
  alignment: 1,
  granularity: 2 * MiB,
  maxArena: Number.POSITIVE_INFINITY,
  arenaHeader: 0,
  embeddings: "host",
  cacheTypes: ["f16", "q8", "q4"],
  layer: (_, layer) => [{ name: `layers.${layer.index}`, bytes: layerBytes(layer) }],
  kv: (layer, tokens, type) => [{ name: `layers.${layer.index}.kv`, bytes: tokens * kvTokenBytes(layer, type) }],
  embedding: (spec) => [{ name: "embedding", bytes: spec.vocabSize * spec.hiddenSize * 2 }],
  head: (spec, shared) => [{ name: "head", bytes: (shared ? 0 : linearBytes(spec.head)) + spec.finalNorm.size * 2 }],
  scratch: () => [{ name: "scratch", bytes: scratch }],
});

/** Devices of these sizes in GiB, each with a baseline of 512 MiB and no reserve. */
export function simpleDevices(...gib: number[]): PlanDevice[] {
  return gib.map((size, index) => ({
    id: `cuda:${index}`,
    card: `cuda:${index}`,
    total: Math.floor(size * GiB),
    usedByOthers: 0,
    baseline: 512 * MiB,
    baselineSource: "calibrated",
    reserve: 0,
  }));
}

export function linearBytes({ in: inputs, out, format }: LinearSpec): number {
  if (format.kind === "plain") return inputs * out * 2;
  return (inputs * out * (format.bits + (16 + format.bits) / format.groupSize)) / 8;
}

function layerBytes({ attention: { q, k, v, o }, mlp, inputNorm, postAttentionNorm }: LayerSpec): number {
  const gated = (part: GatedMlpSpec) => [part.gate, part.up, part.down];
  const linears = mlp.kind === "gated" ? gated(mlp) : [mlp.router, ...mlp.experts.flatMap(gated)];
  return [q, k, v, o, ...linears].reduce(
    (sum, linear) => sum + linearBytes(linear),
    (inputNorm.size + postAttentionNorm.size) * 2,
  );
}

function kvTokenBytes({ attention: { kvHeads, headDim } }: LayerSpec, type: CacheType): number {
  const head = { f32: 4 * headDim, f16: 2 * headDim, q8: headDim + 2, q4: headDim / 2 + headDim / 16 }[type];
  return 2 * kvHeads * head;
}
