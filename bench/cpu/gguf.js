// Writes the benchmark's model as GGUF, typed as llama.cpp's own quantiser types a Q4_0
// model: linears and embeddings Q4_0, the head Q6_K, norms F32.

import { closeSync, openSync, writeSync } from "node:fs";
import { randomBytes } from "./random.js";
import { linears, shape, tokenStrings } from "./shape.js";

const ALIGNMENT = 32;
const TYPE = { f32: 0, q4_0: 2, q6_K: 14 };
// A scale of about 0.005: weights of about 1 / sqrt(hidden), so that activations stay finite.
const SCALE = 0x1d00;
const HEAD_SCALE = 0x0900;

const contents = {
  f32: (count) => Buffer.from(new Float32Array(count).fill(1).buffer),
  // Per 32 weights: f16 scale, 32 nibbles.
  q4_0: (count) => blocks(count / 32, 18, (bytes, at) => bytes.writeUInt16LE(SCALE | (bytes[at + 2] & 0x7f), at)),
  // Per 256 weights: 128 + 64 bytes of low and high bits, 16 int8 scales, f16 scale of scales.
  q6_K: (count) =>
    blocks(count / 256, 210, (bytes, at) => {
      bytes.fill(16, at + 192, at + 208);
      bytes.writeUInt16LE(HEAD_SCALE, at + 208);
    }),
};
const bytesOf = { f32: (count) => count * 4, q4_0: (count) => (count / 32) * 18, q6_K: (count) => (count / 256) * 210 };

function blocks(count, size, finish) {
  const bytes = randomBytes(Math.ceil((count * size) / 4) * 4).subarray(0, count * size);
  for (let i = 0; i < count; i++) finish(bytes, i * size);
  return bytes;
}

/** [name, dimensions with the innermost first, type] */
function tensorList() {
  const list = [["token_embd.weight", [shape.hidden, shape.vocab], "q4_0"]];
  for (let layer = 0; layer < shape.layers; layer++) {
    list.push([`blk.${layer}.attn_norm.weight`, [shape.hidden], "f32"]);
    list.push([`blk.${layer}.ffn_norm.weight`, [shape.hidden], "f32"]);
    for (const [name, , inputs, outputs] of linears) list.push([`blk.${layer}.${name}.weight`, [inputs, outputs], "q4_0"]);
  }
  list.push(["output_norm.weight", [shape.hidden], "f32"], ["output.weight", [shape.hidden, shape.vocab], "q6_K"]);
  return list;
}

function metadata() {
  const tokens = tokenStrings();
  return [
    ["general.architecture", "string", "llama"],
    ["general.name", "string", "random 1.1B"],
    ["general.file_type", "u32", 2],
    ["llama.block_count", "u32", shape.layers],
    ["llama.context_length", "u32", shape.context],
    ["llama.embedding_length", "u32", shape.hidden],
    ["llama.feed_forward_length", "u32", shape.intermediate],
    ["llama.attention.head_count", "u32", shape.heads],
    ["llama.attention.head_count_kv", "u32", shape.kvHeads],
    ["llama.attention.layer_norm_rms_epsilon", "f32", shape.normEps],
    ["llama.rope.dimension_count", "u32", shape.headDim],
    ["llama.rope.freq_base", "f32", shape.ropeTheta],
    ["llama.vocab_size", "u32", shape.vocab],
    ["tokenizer.ggml.model", "string", "llama"],
    ["tokenizer.ggml.tokens", "strings", tokens],
    ["tokenizer.ggml.scores", "f32s", tokens.map((_, id) => -id)],
    // 2 unknown, 3 control, 6 byte, 1 normal
    ["tokenizer.ggml.token_type", "i32s", tokens.map((_, id) => (id === 0 ? 2 : id < 3 ? 3 : id < 259 ? 6 : 1))],
    ["tokenizer.ggml.bos_token_id", "u32", 1],
    ["tokenizer.ggml.eos_token_id", "u32", 2],
    ["tokenizer.ggml.unknown_token_id", "u32", 0],
  ];
}

const u32 = (value) => number(4, (b) => b.writeUInt32LE(value));
const u64 = (value) => number(8, (b) => b.writeBigUInt64LE(BigInt(value)));
const f32 = (value) => number(4, (b) => b.writeFloatLE(value));
const string = (text) => Buffer.concat([u64(Buffer.byteLength(text)), Buffer.from(text)]);
const array = (type, items) => Buffer.concat([u32(9), u32(type), u64(items.length), ...items]);
const VALUE = {
  u32: (value) => Buffer.concat([u32(4), u32(value)]),
  f32: (value) => Buffer.concat([u32(6), f32(value)]),
  string: (value) => Buffer.concat([u32(8), string(value)]),
  strings: (values) => array(8, values.map(string)),
  f32s: (values) => array(6, values.map(f32)),
  i32s: (values) => array(5, values.map(u32)),
};

function number(size, write) {
  const bytes = Buffer.alloc(size);
  write(bytes);
  return bytes;
}

const padding = (length) => Buffer.alloc((ALIGNMENT - (length % ALIGNMENT)) % ALIGNMENT);

export function writeGguf(path) {
  const tensors = tensorList().map(([name, dims, type]) => ({ name, dims, type, count: dims.reduce((a, b) => a * b, 1) }));
  const pairs = metadata();
  const parts = [Buffer.from("GGUF"), u32(3), u64(tensors.length), u64(pairs.length)];
  for (const [key, type, value] of pairs) parts.push(string(key), VALUE[type](value));
  let offset = 0;
  for (const { name, dims, type, count } of tensors) {
    parts.push(string(name), u32(dims.length), ...dims.map(u64), u32(TYPE[type]), u64(offset));
    const bytes = bytesOf[type](count);
    offset += bytes + padding(bytes).length;
  }
  const head = Buffer.concat(parts);
  const file = openSync(path, "w");
  const write = (bytes) => {
    for (const part of [bytes, padding(bytes.length)]) if (part.length) writeSync(file, part);
  };
  write(head);
  for (const { type, count } of tensors) write(contents[type](count));
  closeSync(file);
}
