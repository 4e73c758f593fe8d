// Every kind of tokenizer file against the ids that SentencePiece and Hugging Face's
// tokenizers gave.

import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { fixture } from "../../test/support/fixtures.js";
import { createTokenizer, readTextFiles, type TextFiles } from "./load.js";
import type { Tokenizer } from "./tokenizer.js";

const demo = await readTextFiles(fixture("demo-gptq-4bit-g128"));
const nothing: TextFiles = { ...demo, tokenizerJson: null, tokenizerModel: null, tokenizerConfig: null };

describe.each([
  ["tokenizer.json", createTokenizer(demo)],
  ["tokenizer.model", createTokenizer({ ...demo, tokenizerJson: null })],
])("the demo model's %s", (_name, tokenizer) => {
  const golden = JSON.parse(readFileSync(fixture("tokenizer_golden.json"), "utf8")) as { text: string; ids: number[] }[];

  it("gives the golden ids", () => {
    for (const { text, ids } of golden) expect(tokenizer.encode(text), text).toEqual(ids);
  });

  it("gives the golden texts back, at once and piece by piece", () => {
    for (const { text, ids } of golden) {
      expect(tokenizer.decode(ids)).toBe(text);
      const stream = tokenizer.stream();
      expect(ids.map((id) => stream.push(id)).join("") + stream.end()).toBe(text);
    }
  });

  it("knows its size, BOS, EOS and special tokens", () => {
    expect(tokenizer).toMatchObject({ vocabSize: 4096, bosId: 1, eosIds: [2], addsBos: true });
    const spellings = ["<unk>", "<s>", "</s>", "<|user|>", "<|assistant|>", "<|end|>"];
    expect(new Map(tokenizer.specialTokens)).toEqual(new Map(spellings.map((text, id) => [text, id])));
  });
});

describe("other kinds of tokenizers", () => {
  const { texts, textsWithSpecial, goldens } = JSON.parse(readFileSync(fixture("tokenizers/golden.json"), "utf8")) as {
    texts: string[];
    textsWithSpecial: string[];
    goldens: Record<string, { ids: number[][]; parsed?: number[][] }>;
  };
  const read = (name: string): Tokenizer => {
    if (name === "metaspace-legacy") return legacy();
    const kind = goldens[name]!.parsed
      ? { tokenizerJson: readFileSync(fixture(`tokenizers/${name}.json`)) }
      : { tokenizerModel: readFileSync(fixture(`tokenizers/${name}.model`)) };
    return createTokenizer({ ...nothing, ...kind });
  };

  it.each(Object.keys(goldens))("%s gives the golden ids", (name) => {
    const tokenizer = read(name);
    const { ids, parsed } = goldens[name]!;
    for (const [index, text] of texts.entries()) expect(tokenizer.encode(text), JSON.stringify(text)).toEqual(ids[index]);
    for (const [index, expected] of (parsed ?? []).entries())
      expect(tokenizer.encode(textsWithSpecial[index]!, { parseSpecial: true }), JSON.stringify(textsWithSpecial[index])).toEqual(
        expected,
      );
  });

  /** As converters of 2023 wrote Llama's: a normalizer instead of a pre-tokenizer. */
  function legacy(): Tokenizer {
    const file = JSON.parse(new TextDecoder().decode(demo.tokenizerJson!)) as Record<string, unknown>;
    file.normalizer = {
      type: "Sequence",
      normalizers: [
        { type: "Prepend", prepend: "▁" },
        { type: "Replace", pattern: { String: " " }, content: "▁" },
      ],
    };
    file.pre_tokenizer = null;
    return createTokenizer({ ...nothing, tokenizerJson: new TextEncoder().encode(JSON.stringify(file)) });
  }
});
