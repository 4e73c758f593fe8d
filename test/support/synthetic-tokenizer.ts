// A tokenizer for made-up checkpoints: one token a byte and nothing learnt, so that any text
// has ids below 259.

/** tokenizer.json with `<unk> <s> </s>`, the 256 bytes, and filler up to `vocab` entries. */
export function syntheticTokenizer(vocab: number): Record<string, unknown> {
  const special = ["<unk>", "<s>", "</s>"];
  const bytes = Array.from({ length: 256 }, (_, byte) => `<0x${byte.toString(16).toUpperCase().padStart(2, "0")}>`);
  const filler = Array.from({ length: Math.max(0, vocab - 259) }, (_, i) => `filler${i}`);
  const tokens = [...special, ...bytes, ...filler].slice(0, vocab);
  return {
    version: "1.0",
    truncation: null,
    padding: null,
    added_tokens: special.map((content, id) => {
      return { id, content, single_word: false, lstrip: false, rstrip: false, normalized: false, special: true };
    }),
    normalizer: null,
    pre_tokenizer: null,
    post_processor: null,
    decoder: { type: "Sequence", decoders: [{ type: "ByteFallback" }, { type: "Fuse" }] },
    model: {
      type: "BPE",
      dropout: null,
      unk_token: "<unk>",
      continuing_subword_prefix: null,
      end_of_word_suffix: null,
      fuse_unk: true,
      byte_fallback: true,
      vocab: Object.fromEntries(tokens.map((token, id) => [token, id])),
      merges: [],
    },
  };
}
