// Checkpoints that are nowhere: headers of a known shape of model, and contents made up while they
// are read. For measuring speed and memory of models too large to carry around. What such a
// model says means nothing, but its numbers are of a sane size and all of them finite.
//
// `synthetic:llama-7b`, `synthetic:llama-13b:8:64` (bits, group size; default 4 bits, groups of 128).

import { UsageError } from "../errors.js";
import type { Checkpoint, Dtype, TensorInfo } from "./checkpoint.js";

interface Shape {
  readonly layers: number;
  readonly hidden: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly intermediate: number;
  readonly vocab: number;
  readonly ropeTheta: number;
}

const SHAPES: Readonly<Record<string, Shape>> = {
  "llama-7b": { layers: 32, hidden: 4096, heads: 32, kvHeads: 32, intermediate: 11008, vocab: 32000, ropeTheta: 1e4 },
  "llama-13b": { layers: 40, hidden: 5120, heads: 40, kvHeads: 40, intermediate: 13824, vocab: 32000, ropeTheta: 1e4 },
  "llama-70b": { layers: 80, hidden: 8192, heads: 64, kvHeads: 8, intermediate: 28672, vocab: 32000, ropeTheta: 1e4 },
  "llama3-8b": { layers: 32, hidden: 4096, heads: 32, kvHeads: 8, intermediate: 14336, vocab: 128256, ropeTheta: 5e5 },
};
/** As people may write them. */
const ALIASES: Readonly<Record<string, string>> = { "13b": "llama-13b", "70b": "llama-70b", "7b": "llama-7b" };

const PREFIX = "synthetic:";
/** No limit of their own: memory is what limits them. */
const CONTEXT_LIMIT = 1_048_576;
const ELEMENT_BYTES = { F16: 2, I32: 4 } as const;

export function isSyntheticAddress(address: string): boolean {
  return address.startsWith(PREFIX);
}

/** Names that syntheticAddress() takes. */
export const SYNTHETIC_MODELS: readonly string[] = [...Object.keys(SHAPES), ...Object.keys(ALIASES)];

/** @throws {UsageError} for a model, bits or group size that there is not */
export function syntheticAddress(model: string, bits = 4, group = 128): string {
  const address = `${PREFIX}${model}:${bits}:${group}`;
  parse(address);
  return address;
}

/** @throws {UsageError} */
export function openSynthetic(address: string): Checkpoint {
  const { shape, bits, group } = parse(address);
  const tensors = tensorsOf(shape, bits, group);
  return {
    source: address,
    configs: { config: configOf(shape, bits, group), generation: null, quantize: null },
    tensors: new Map(tensors.map((tensor) => [tensor.name, tensor])),
    read: async (tensor, offset, into) => fill(tensor.name, bits, offset, into),
    close: async () => {},
  };
}

function parse(address: string): { shape: Shape; bits: number; group: number } {
  const [model = "", bits = "4", group = "128", ...rest] = address.slice(PREFIX.length).split(":");
  const shape = SHAPES[ALIASES[model] ?? model];
  if (!shape || rest.length > 0)
    throw new UsageError(`there is no synthetic model "${model}"`, { expected: Object.keys(SHAPES).join(", ") });
  if (!["2", "3", "4", "8"].includes(bits)) throw new UsageError(`weights of ${bits} bits`, { expected: "2, 3, 4 or 8" });
  if (!["32", "64", "128"].includes(group)) throw new UsageError(`groups of ${group}`, { expected: "32, 64 or 128" });
  return { shape, bits: Number(bits), group: Number(group) };
}

function configOf(shape: Shape, bits: number, group: number): Record<string, unknown> {
  return {
    model_type: "llama",
    architectures: ["LlamaForCausalLM"],
    hidden_size: shape.hidden,
    intermediate_size: shape.intermediate,
    num_hidden_layers: shape.layers,
    num_attention_heads: shape.heads,
    num_key_value_heads: shape.kvHeads,
    vocab_size: shape.vocab,
    max_position_embeddings: CONTEXT_LIMIT,
    rms_norm_eps: 1e-5,
    rope_theta: shape.ropeTheta,
    hidden_act: "silu",
    tie_word_embeddings: false,
    bos_token_id: 1,
    eos_token_id: 2,
    quantization_config: { quant_method: "gptq", bits, group_size: group, desc_act: false, sym: true },
  };
}

function tensorsOf({ layers, hidden, heads, kvHeads, intermediate, vocab }: Shape, bits: number, group: number): TensorInfo[] {
  const tensors: TensorInfo[] = [];
  let start = 0;
  const add = (name: string, dtype: Dtype & keyof typeof ELEMENT_BYTES, ...shape: number[]) => {
    const bytes = shape.reduce((product, size) => product * size, ELEMENT_BYTES[dtype]);
    tensors.push({ name, dtype, shape, file: "synthetic", start, bytes });
    start += bytes;
  };
  const linear = (name: string, inputs: number, outputs: number) => {
    add(`${name}.qweight`, "I32", (inputs * bits) / 32, outputs);
    add(`${name}.qzeros`, "I32", inputs / group, (outputs * bits) / 32);
    add(`${name}.scales`, "F16", inputs / group, outputs);
  };
  const headDim = hidden / heads;
  add("model.embed_tokens.weight", "F16", vocab, hidden);
  for (let layer = 0; layer < layers; layer++) {
    const at = `model.layers.${layer}`;
    add(`${at}.input_layernorm.weight`, "F16", hidden);
    linear(`${at}.self_attn.q_proj`, hidden, heads * headDim);
    linear(`${at}.self_attn.k_proj`, hidden, kvHeads * headDim);
    linear(`${at}.self_attn.v_proj`, hidden, kvHeads * headDim);
    linear(`${at}.self_attn.o_proj`, heads * headDim, hidden);
    add(`${at}.post_attention_layernorm.weight`, "F16", hidden);
    linear(`${at}.mlp.gate_proj`, hidden, intermediate);
    linear(`${at}.mlp.up_proj`, hidden, intermediate);
    linear(`${at}.mlp.down_proj`, intermediate, hidden);
  }
  add("model.norm.weight", "F16", hidden);
  add("lm_head.weight", "F16", vocab, hidden);
  return tensors;
}

/** Random bytes that are copied again and again; a prime length, so that rows differ. */
const NOISE_BYTES = 1_048_573;
const made = new Map<string, Uint8Array>();

function fill(name: string, bits: number, offset: number, into: Uint8Array): void {
  if (name.endsWith(".qweight")) repeat(once("codes", noise), offset, into);
  else if (name.endsWith(".qzeros"))
    into.fill(ZERO_BYTE[bits]!); // the middle of the codes
  else if (name.endsWith(".scales"))
    into.fill(0x18); // 0x1818: 0.002
  else if (name.endsWith("norm.weight"))
    into.fill(0x3c); // 0x3c3c: 1.06
  else repeat(once("halves", smallHalves), offset - (offset % 2), into);
}

function once(name: string, make: () => Uint8Array): Uint8Array {
  const bytes = made.get(name) ?? make();
  made.set(name, bytes);
  return bytes;
}

/** One less than the middle of the codes in every place, as the first GPTQ format stores zeros; nearly so for 3 bits. */
const ZERO_BYTE: Readonly<Record<number, number>> = { 2: 0x55, 3: 0x6d, 4: 0x77, 8: 0x7f };

function repeat(noiseBytes: Uint8Array, offset: number, into: Uint8Array): void {
  let from = offset % noiseBytes.length;
  for (let done = 0; done < into.length; ) {
    const part = noiseBytes.subarray(from, from + into.length - done);
    into.set(part, done);
    done += part.length;
    from = 0;
  }
}

/** fp16 numbers up to 0.03: sign, exponents 2⁻⁸ … 2⁻⁶, random fractions. An even number of bytes. */
function smallHalves(): Uint8Array {
  const bytes = noise().subarray(0, NOISE_BYTES - 1);
  for (let i = 1; i < bytes.length; i += 2) bytes[i] = (bytes[i]! & 0x83) | (0x1c + 4 * (bytes[i - 1]! & 1));
  return bytes;
}

function noise(): Uint8Array {
  const bytes = new Uint8Array(NOISE_BYTES);
  let state = 0x9e3779b9;
  for (let i = 0; i < bytes.length; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    bytes[i] = state >>> 24;
  }
  return bytes;
}
