// Both kinds of tokenizer files against the ids that SentencePiece itself gave.

import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { fixture } from "../../test/support/fixtures.js";
import { createTokenizer, readTextFiles } from "./load.js";

const golden = JSON.parse(readFileSync(fixture("tokenizer_golden.json"), "utf8")) as { text: string; ids: number[] }[];
const files = await readTextFiles(fixture("demo-gptq-4bit-g128"));

describe.each([
  ["tokenizer.json", createTokenizer(files)],
  ["tokenizer.model", createTokenizer({ ...files, tokenizerJson: null })],
])("%s", (_name, tokenizer) => {
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

  it("knows its size, BOS and EOS", () => {
    expect(tokenizer).toMatchObject({ vocabSize: 4096, bosId: 1, eosIds: [2], addsBos: true });
    expect([...tokenizer.specialTokens]).toEqual([
      ["<unk>", 0],
      ["<s>", 1],
      ["</s>", 2],
      ["<|user|>", 3],
      ["<|assistant|>", 4],
      ["<|end|>", 5],
    ]);
  });
});
