// Reads fixture checkpoints for the reference, by the definition
// of the formats and nothing else: it shares no code with the product, so that both can be
// held against each other.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { decodeFloats, type FloatType } from "../support/element-types.js";
import type { DenseLinear, ReferenceModel } from "./model.js";
import type { ReferenceRope } from "./rope.js";

export interface FileTensor {
  readonly dtype: string;
  readonly shape: readonly number[];
  readonly bytes: Uint8Array;
}

/** All tensors of one safetensors file. */
export function readTensors(path: string): Map<string, FileTensor> {
  const file = readFileSync(path);
  const headerBytes = Number(file.readBigUInt64LE(0));
  const header = JSON.parse(file.toString("utf8", 8, 8 + headerBytes)) as Record<
    string,
    { dtype: string; shape: number[]; data_offsets: [number, number] }
  >;
  const tensors = new Map<string, FileTensor>();
  for (const [name, entry] of Object.entries(header)) {
    if (name === "__metadata__") continue;
    const [begin, end] = entry.data_offsets;
    const bytes = new Uint8Array(file.subarray(8 + headerBytes + begin, 8 + headerBytes + end));
    tensors.set(name, { dtype: entry.dtype, shape: entry.shape, bytes });
  }
  return tensors;
}

/** A float tensor's values. */
export function floatsOf(tensor: FileTensor | undefined): Float64Array {
  if (!tensor) throw new Error("no such tensor in the fixture");
  return decodeFloats(tensor.bytes, tensor.dtype.toLowerCase() as FloatType);
}

/** A 32-bit integer tensor's values. */
export function integersOf(tensor: FileTensor | undefined): Int32Array {
  if (tensor?.dtype !== "I32") throw new Error("no such I32 tensor in the fixture");
  return new Int32Array(tensor.bytes.buffer, tensor.bytes.byteOffset, tensor.bytes.byteLength / 4);
}

interface Config {
  vocab_size: number;
  hidden_size: number;
  num_hidden_layers: number;
  num_attention_heads: number;
  num_key_value_heads: number;
  head_dim?: number;
  rms_norm_eps: number;
  max_position_embeddings: number;
  tie_word_embeddings: boolean;
  sliding_window?: number | null;
  layer_types?: string[];
  rope_parameters: { rope_type: string } & Record<string, number | boolean | string | undefined>;
  quantization_config?: { bits: number; group_size: number; checkpoint_format: "gptq" | "gptq_v2" };
}

/** Reads a single-file checkpoint written by transformers 5, plain or GPTQ. */
export function readModel(folder: string): ReferenceModel {
  const config = JSON.parse(readFileSync(join(folder, "config.json"), "utf8")) as Config;
  const tensors = readTensors(join(folder, "model.safetensors"));
  const floats = (name: string) => floatsOf(tensors.get(name));
  const linear = (name: string) =>
    tensors.has(`${name}.qweight`) ? gptqLinear(tensors, name, config.quantization_config!) : plainLinear(tensors, name);
  const norm = (name: string) => (tensors.has(name) ? floats(name) : null);
  const embedding = floats("model.embed_tokens.weight");
  return {
    vocab: config.vocab_size,
    hidden: config.hidden_size,
    heads: config.num_attention_heads,
    kvHeads: config.num_key_value_heads,
    headDim: config.head_dim ?? config.hidden_size / config.num_attention_heads,
    normEps: config.rms_norm_eps,
    rope: ropeOf(config),
    embedding,
    layers: Array.from({ length: config.num_hidden_layers }, (_, i) => {
      const prefix = `model.layers.${i}`;
      return {
        inputNorm: floats(`${prefix}.input_layernorm.weight`),
        q: linear(`${prefix}.self_attn.q_proj`),
        k: linear(`${prefix}.self_attn.k_proj`),
        v: linear(`${prefix}.self_attn.v_proj`),
        o: linear(`${prefix}.self_attn.o_proj`),
        qNorm: norm(`${prefix}.self_attn.q_norm.weight`),
        kNorm: norm(`${prefix}.self_attn.k_norm.weight`),
        // Mistral's window is every layer's; the others list the kinds of their layers.
        window: config.layer_types?.[i] === "full_attention" ? null : (config.sliding_window ?? null),
        postAttentionNorm: floats(`${prefix}.post_attention_layernorm.weight`),
        gate: linear(`${prefix}.mlp.gate_proj`),
        up: linear(`${prefix}.mlp.up_proj`),
        down: linear(`${prefix}.mlp.down_proj`),
      };
    }),
    finalNorm: floats("model.norm.weight"),
    head: config.tie_word_embeddings
      ? { in: config.hidden_size, out: config.vocab_size, weight: embedding, bias: null }
      : linear("lm_head"),
  };
}

function ropeOf({ rope_parameters: rope, max_position_embeddings: maxPositions }: Config): ReferenceRope {
  const theta = Number(rope.rope_theta);
  const factor = Number(rope.factor);
  const originalPositions = Number(rope.original_max_position_embeddings);
  const optional = (name: string) => (rope[name] === undefined ? null : Number(rope[name]));
  switch (rope.rope_type) {
    case "default":
      return { type: "default", theta };
    case "linear":
      return { type: "linear", theta, factor };
    case "dynamic":
      return { type: "dynamic", theta, factor, maxPositions };
    case "llama3":
      return {
        type: "llama3",
        theta,
        factor,
        lowFreqFactor: Number(rope.low_freq_factor),
        highFreqFactor: Number(rope.high_freq_factor),
        originalPositions,
      };
    case "yarn":
      return {
        type: "yarn",
        theta,
        factor,
        originalPositions,
        betaFast: optional("beta_fast") ?? 32,
        betaSlow: optional("beta_slow") ?? 1,
        attentionFactor: optional("attention_factor"),
        mscale: optional("mscale"),
        mscaleAllDim: optional("mscale_all_dim"),
        truncate: rope.truncate !== false,
      };
    default:
      throw new Error(`no fixture has ${rope.rope_type} RoPE`);
  }
}

function plainLinear(tensors: Map<string, FileTensor>, name: string): DenseLinear {
  const tensor = tensors.get(`${name}.weight`);
  const weight = floatsOf(tensor);
  return { in: tensor!.shape[1]!, out: tensor!.shape[0]!, weight, bias: biasOf(tensors, name) };
}

function biasOf(tensors: Map<string, FileTensor>, name: string): Float64Array | null {
  const tensor = tensors.get(`${name}.bias`);
  return tensor ? floatsOf(tensor) : null;
}

function gptqLinear(
  tensors: Map<string, FileTensor>,
  name: string,
  { bits, group_size, checkpoint_format }: NonNullable<Config["quantization_config"]>,
): DenseLinear {
  const addedToZero = checkpoint_format === "gptq" ? 1 : 0;
  const qweight = tensors.get(`${name}.qweight`)!;
  const packed = integersOf(qweight);
  const packedZeros = integersOf(tensors.get(`${name}.qzeros`));
  const scales = floatsOf(tensors.get(`${name}.scales`));
  const rows = (qweight.shape[0]! * 32) / bits;
  const out = qweight.shape[1]!;
  const groupSize = group_size === -1 ? rows : group_size;
  const order = tensors.get(`${name}.g_idx`);
  const groupOf = order ? integersOf(order) : Int32Array.from({ length: rows }, (_, i) => Math.floor(i / groupSize));
  const zeroWords = (out * bits) / 32;
  const zeros = Int32Array.from(scales, (_, i) => {
    const [group, column] = [Math.floor(i / out), i % out];
    return (bitsAt(packedZeros, group * zeroWords, 1, column * bits, bits) + addedToZero) % 2 ** bits;
  });
  const weight = new Float64Array(out * rows);
  for (let column = 0; column < out; column++) {
    for (let row = 0; row < rows; row++) {
      const at = groupOf[row]! * out + column;
      const q = bitsAt(packed, column, out, row * bits, bits);
      weight[column * rows + row] = (q - zeros[at]!) * scales[at]!;
    }
  }
  return { in: rows, out, weight, bias: biasOf(tensors, name) };
}

/**
 * The number in bits `first` … `first + bits − 1` of a stream of 32-bit words, lowest bits first.
 *
 * @param at index of the stream's first word @param stride from one of its words to the next
 */
function bitsAt(words: Int32Array, at: number, stride: number, first: number, bits: number): number {
  const shift = first & 31;
  let value = words[at + (first >> 5) * stride]! >>> shift;
  if (shift + bits > 32) value |= words[at + ((first >> 5) + 1) * stride]! << (32 - shift);
  return value & ((1 << bits) - 1);
}
