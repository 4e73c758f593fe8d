// A model in a few words and figures, for people and for ModelInfo.

import type { AttentionSpec, GatedMlpSpec, LinearSpec, ModelSpec, MoeMlpSpec, NormSpec } from "../model/spec.js";

/** Weights and biases of the model, quantised or not; a tied head counts once. */
export function countParameters(spec: ModelSpec): number {
  const layers = spec.layers.map(
    (layer) =>
      sum(linearsOf(layer.attention, layer.mlp).map(sizeOf)) +
      sum(normsOf(layer.attention).map((norm) => norm.size)) +
      layer.inputNorm.size +
      layer.postAttentionNorm.size,
  );
  const head = spec.tiedEmbeddings ? 0 : sizeOf(spec.head);
  return spec.vocabSize * spec.hiddenSize + sum(layers) + spec.finalNorm.size + head;
}

/** How the layers' linears are kept: `GPTQ 4-bit, groups of 128`, `f16`; several are joined with `+`. */
export function describeQuantization(spec: ModelSpec): string {
  const formats = spec.layers.flatMap((layer) => linearsOf(layer.attention, layer.mlp)).map(describeFormat);
  return [...new Set(formats)].join(" + ") || "none";
}

function describeFormat({ format, in: inputs }: LinearSpec): string {
  if (format.kind === "plain") return format.dtype;
  const groups = format.groupSize === inputs ? "one group a column" : `groups of ${format.groupSize}`;
  return `GPTQ ${format.bits}-bit, ${groups}`;
}

function linearsOf({ q, k, v, o }: AttentionSpec, mlp: GatedMlpSpec | MoeMlpSpec): LinearSpec[] {
  const gated = mlp.kind === "moe" ? mlp.experts : [mlp];
  const router = mlp.kind === "moe" ? [mlp.router] : [];
  return [q, k, v, o, ...router, ...gated.flatMap(({ gate, up, down }) => [gate, up, down])];
}

function normsOf({ qNorm, kNorm }: AttentionSpec): NormSpec[] {
  return [qNorm, kNorm].filter((norm) => norm !== null);
}

function sizeOf(linear: LinearSpec): number {
  return linear.in * linear.out + (linear.bias ? linear.out : 0);
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}
