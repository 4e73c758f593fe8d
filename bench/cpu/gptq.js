// Writes the benchmark's model as a GPTQ checkpoint: linears 4-bit, group 128, symmetric, no
// act-order; embeddings, head and norms fp16.

import { closeSync, mkdirSync, openSync, writeFileSync, writeSync } from "node:fs";
import { join } from "node:path";
import { halvesNear, randomBytes, smallHalves } from "./random.js";
import { linears, shape, tokenStrings } from "./shape.js";

const BITS = 4;
const GROUP = 128;

const fill = {
  random: (bytes) => randomBytes(bytes),
  // Nibbles 7: format "gptq" stores zero − 1.
  zeros: (bytes) => Buffer.alloc(bytes, 0x77),
  scales: (bytes) => halvesNear(0x1d00, bytes / 2),
  small: (bytes) => smallHalves(bytes / 2),
  ones: (bytes) => Buffer.alloc(bytes, Buffer.from([0x00, 0x3c])),
};

/** [name, dtype, shape, contents] */
function tensorList() {
  const list = [
    ["model.embed_tokens.weight", "F16", [shape.vocab, shape.hidden], "small"],
    ["lm_head.weight", "F16", [shape.vocab, shape.hidden], "small"],
    ["model.norm.weight", "F16", [shape.hidden], "ones"],
  ];
  for (let layer = 0; layer < shape.layers; layer++) {
    const prefix = `model.layers.${layer}`;
    list.push([`${prefix}.input_layernorm.weight`, "F16", [shape.hidden], "ones"]);
    list.push([`${prefix}.post_attention_layernorm.weight`, "F16", [shape.hidden], "ones"]);
    for (const [, name, inputs, outputs] of linears) {
      list.push([`${prefix}.${name}.qweight`, "I32", [(inputs * BITS) / 32, outputs], "random"]);
      list.push([`${prefix}.${name}.qzeros`, "I32", [inputs / GROUP, (outputs * BITS) / 32], "zeros"]);
      list.push([`${prefix}.${name}.scales`, "F16", [inputs / GROUP, outputs], "scales"]);
    }
  }
  return list;
}

const config = {
  architectures: ["LlamaForCausalLM"],
  model_type: "llama",
  vocab_size: shape.vocab,
  hidden_size: shape.hidden,
  intermediate_size: shape.intermediate,
  num_hidden_layers: shape.layers,
  num_attention_heads: shape.heads,
  num_key_value_heads: shape.kvHeads,
  head_dim: shape.headDim,
  max_position_embeddings: shape.context,
  rms_norm_eps: shape.normEps,
  rope_theta: shape.ropeTheta,
  rope_scaling: null,
  hidden_act: "silu",
  attention_bias: false,
  tie_word_embeddings: false,
  bos_token_id: 1,
  eos_token_id: 2,
  torch_dtype: "float16",
  quantization_config: {
    quant_method: "gptq",
    bits: BITS,
    group_size: GROUP,
    desc_act: false,
    sym: true,
    checkpoint_format: "gptq",
  },
};

function tokenizer() {
  const tokens = tokenStrings();
  return {
    version: "1.0",
    added_tokens: ["<unk>", "<s>", "</s>"].map((content, id) => ({
      id,
      content,
      single_word: false,
      lstrip: false,
      rstrip: false,
      normalized: false,
      special: true,
    })),
    normalizer: null,
    pre_tokenizer: null,
    post_processor: null,
    decoder: { type: "Sequence", decoders: [{ type: "ByteFallback" }, { type: "Fuse" }] },
    model: {
      type: "BPE",
      unk_token: "<unk>",
      fuse_unk: true,
      byte_fallback: true,
      vocab: Object.fromEntries(tokens.map((token, id) => [token, id])),
      merges: [],
    },
  };
}

export function writeGptq(folder) {
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, "config.json"), JSON.stringify(config, null, 2));
  writeFileSync(join(folder, "tokenizer.json"), JSON.stringify(tokenizer()));
  writeFileSync(join(folder, "tokenizer_config.json"), JSON.stringify({ bos_token: "<s>", eos_token: "</s>" }));
  const tensors = tensorList().map(([name, dtype, dims, contents]) => {
    const bytes = dims.reduce((a, b) => a * b, 1) * (dtype === "I32" ? 4 : 2);
    return { name, dtype, dims, contents, bytes };
  });
  const header = {};
  let end = 0;
  for (const { name, dtype, dims, bytes } of tensors) {
    header[name] = { dtype, shape: dims, data_offsets: [end, end + bytes] };
    end += bytes;
  }
  const text = JSON.stringify(header);
  const json = Buffer.from(text.padEnd(Math.ceil(text.length / 8) * 8));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(json.length));
  const file = openSync(join(folder, "model.safetensors"), "w");
  writeSync(file, length);
  writeSync(file, json);
  for (const { contents, bytes } of tensors) writeSync(file, fill[contents](bytes));
  closeSync(file);
}
