// A checkpoint in a few words and figures: what `exllama inspect` prints first.

import type { CheckpointHeaders } from "../checkpoint/checkpoint.js";
import { ConfigValues } from "./config-values.js";
import { readQuantization } from "./quantization.js";
import type { LayerSpec, LinearFormat, LinearSpec, ModelSpec } from "./spec.js";

export interface ModelDescription {
  readonly architecture: string;
  /** Weights and biases of the model, however they are packed; tied embeddings count once. */
  readonly parameters: number;
  /** `GPTQ 4-bit g128, act-order`, `f16`, … */
  readonly quantization: string;
  /** Bytes of all tensors. */
  readonly checkpointBytes: number;
  readonly tensorCount: number;
  readonly files: readonly string[];
}

/** @param spec what `readModel` made of the headers */
export function describeModel(headers: CheckpointHeaders, spec: ModelSpec): ModelDescription {
  const gptq = readQuantization(new ConfigValues(headers.configs.config, "config.json"), headers.configs.quantize);
  const tensors = [...headers.tensors.values()];
  return {
    architecture: spec.architecture,
    parameters: countParameters(spec),
    quantization: describeQuantization(spec, gptq?.descAct ?? false),
    checkpointBytes: tensors.reduce((sum, { bytes }) => sum + bytes, 0),
    tensorCount: tensors.length,
    files: [...new Set(tensors.map(({ file }) => file))].sort(),
  };
}

/** Parameters by shapes: a 4-bit weight is one, scales and zeros are none. */
export function countParameters(spec: ModelSpec): number {
  const linears = [...spec.layers.flatMap(linearsOf), ...(spec.tiedEmbeddings ? [] : [spec.head])];
  const norms = [...spec.layers.flatMap(normsOf), spec.finalNorm];
  return (
    spec.vocabSize * spec.hiddenSize +
    linears.reduce((sum, linear) => sum + linear.in * linear.out + (linear.bias ? linear.out : 0), 0) +
    norms.reduce((sum, norm) => sum + norm.size, 0)
  );
}

/**
 * How the layers' weights are kept; several ways are joined by `+`, most weights first. The
 * head is mentioned where it is quantised, which is rare.
 *
 * @param actOrder as the config says it: the presence of g_idx does not tell
 */
export function describeQuantization(spec: ModelSpec, actOrder: boolean): string {
  const weights = new Map<string, number>();
  for (const { in: inputs, out, format } of spec.layers.flatMap(weightsOf)) {
    const name = describeFormat(format, inputs);
    weights.set(name, (weights.get(name) ?? 0) + inputs * out);
  }
  const names = [...weights].sort(([, a], [, b]) => b - a).map(([name]) => name);
  const order = actOrder && names.some((name) => name.startsWith("GPTQ")) ? ", act-order" : "";
  const head = spec.head.format.kind === "gptq" ? `, head ${describeFormat(spec.head.format, spec.head.in)}` : "";
  return `${names.join(" + ")}${order}${head}`;
}

function describeFormat(format: LinearFormat, inputs: number): string {
  if (format.kind === "plain") return format.dtype;
  // A group as large as a linear's input has no number of its own: inputs differ between linears.
  return `GPTQ ${format.bits}-bit ${format.groupSize === inputs ? "per column" : `g${format.groupSize}`}`;
}

/** Every linear of a layer, the router of a mixture of experts among them. */
export function linearsOf(layer: LayerSpec): LinearSpec[] {
  const { mlp } = layer;
  const routing = mlp.kind === "moe" ? [mlp.router, ...(mlp.sharedGate ? [mlp.sharedGate] : [])] : [];
  return [...weightsOf(layer), ...routing];
}

/** The linears that quantisers touch. */
function weightsOf({ attention: { q, k, v, o }, mlp }: LayerSpec): LinearSpec[] {
  const gated = mlp.kind === "moe" ? mlp.experts : [mlp];
  return [q, k, v, o, ...gated.flatMap(({ gate, up, down }) => [gate, up, down])];
}

function normsOf({ inputNorm, postAttentionNorm, attention: { qNorm, kNorm } }: LayerSpec) {
  return [inputNorm, postAttentionNorm, qNorm, kNorm].filter((norm) => norm !== null);
}
