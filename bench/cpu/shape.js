// The model both sides run: the shape of TinyLlama-1.1B, with random weights. Speed depends
// on the shape and on the bits of the weights, not on what they say.

export const shape = {
  vocab: 32000,
  hidden: 2048,
  layers: 22,
  heads: 32,
  kvHeads: 4,
  headDim: 64,
  intermediate: 5632,
  context: 2048,
  normEps: 1e-5,
  ropeTheta: 10000,
};

/** The linear layers of one block as [llama.cpp's name, ours, inputs, outputs]. */
export const linears = [
  ["attn_q", "self_attn.q_proj", shape.hidden, shape.heads * shape.headDim],
  ["attn_k", "self_attn.k_proj", shape.hidden, shape.kvHeads * shape.headDim],
  ["attn_v", "self_attn.v_proj", shape.hidden, shape.kvHeads * shape.headDim],
  ["attn_output", "self_attn.o_proj", shape.heads * shape.headDim, shape.hidden],
  ["ffn_gate", "mlp.gate_proj", shape.hidden, shape.intermediate],
  ["ffn_up", "mlp.up_proj", shape.hidden, shape.intermediate],
  ["ffn_down", "mlp.down_proj", shape.intermediate, shape.hidden],
];

/** Token strings of a vocabulary in SentencePiece's manner: specials, bytes, filler. */
export function tokenStrings() {
  const bytes = Array.from({ length: 256 }, (_, byte) => `<0x${byte.toString(16).toUpperCase().padStart(2, "0")}>`);
  const filler = Array.from({ length: shape.vocab - 259 }, (_, i) => `▁w${i}`);
  return ["<unk>", "<s>", "</s>", ...bytes, ...filler];
}
