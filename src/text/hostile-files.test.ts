// Files that are damaged, or made to do harm: each is refused with a TokenizerError.

import { mkdir, mkdtemp, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { fixture } from "../../test/support/fixtures.js";
import { ExllamaError } from "../errors.js";
import { TokenizerError } from "./errors.js";
import { createTokenizer, readTextFiles, type TextFiles } from "./load.js";
import { loadTokenizer } from "./load-tokenizer.js";

const demo = await readTextFiles(fixture("demo-gptq-4bit-g128"));
const bytes = (value: unknown): Uint8Array => new TextEncoder().encode(typeof value === "string" ? value : JSON.stringify(value));
const nothing: TextFiles = { ...demo, tokenizerJson: null, tokenizerModel: null, tokenizerConfig: null };

/** A whole small byte-level tokenizer.json, to damage one part of. */
const good = {
  added_tokens: [{ id: 4, content: "<|end|>", special: true }],
  normalizer: null as unknown,
  pre_tokenizer: { type: "ByteLevel", add_prefix_space: false, use_regex: true } as unknown,
  post_processor: null as unknown,
  decoder: { type: "ByteLevel" } as unknown,
  model: { type: "BPE", vocab: { a: 0, b: 1, ab: 2, Ġ: 3 }, merges: ["a b"] } as unknown,
};
const withJson = (change: object): TextFiles => ({ ...nothing, tokenizerJson: bytes({ ...good, ...change }) });

describe("tokenizer.json", () => {
  it("reads the undamaged one", () => {
    const tokenizer = createTokenizer(withJson({}));
    expect(tokenizer.encode("ab ab")).toEqual([2, 3, 2]);
    expect(tokenizer.encode("ab<|end|>", { parseSpecial: true })).toEqual([2, 4]);
  });

  it.each<[string, object]>([
    ["no model", { model: null }],
    ["a model of another type", { model: { type: "WordPiece", vocab: { a: 0 } } }],
    ["an empty vocabulary", { model: { type: "BPE", vocab: {}, merges: [] } }],
    ["an id that is no whole number", { model: { type: "BPE", vocab: { a: 0.5 }, merges: [] } }],
    ["a huge id", { model: { type: "BPE", vocab: { a: 1e15 }, merges: [] } }],
    ["a negative id", { model: { type: "BPE", vocab: { a: -1 }, merges: [] } }],
    ["one id twice", { model: { type: "BPE", vocab: { a: 0, b: 0 }, merges: [] } }],
    ["a merge into nothing", { model: { type: "BPE", vocab: { a: 0, b: 1 }, merges: ["a b"] } }],
    ["a merge of three", { model: { type: "BPE", vocab: { a: 0, b: 1 }, merges: [["a", "b", "a"]] } }],
    ["no merges", { model: { type: "BPE", vocab: { a: 0 } } }],
    ["a subword prefix", { model: { type: "BPE", vocab: { a: 0 }, merges: [], continuing_subword_prefix: "##" } }],
    ["a unigram piece without a score", { model: { type: "Unigram", unk_id: 0, vocab: [["a", null]] } }],
    ["an unknown id past the pieces", { model: { type: "Unigram", unk_id: 9, vocab: [["a", -1]] } }],
    ["added tokens that are no list", { added_tokens: 5 }],
    ["an added token without an id", { added_tokens: [{ content: "x" }] }],
    ["an added token at a taken id", { added_tokens: [{ id: 0, content: "x" }] }],
    ["an empty added token", { added_tokens: [{ id: 9, content: "" }] }],
    ["an unknown normalizer", { normalizer: { type: "Precompiled", precompiled_charsmap: "AA==" } }],
    ["an unknown pre-tokenizer", { pre_tokenizer: { type: "BertPreTokenizer" } }],
    [
      "a split the library would do otherwise",
      { pre_tokenizer: { type: "Split", pattern: { String: "a" }, behavior: "MergedWithNext" } },
    ],
    ["a broken pattern", { pre_tokenizer: { type: "Split", pattern: { Regex: "(" }, behavior: "Isolated" } }],
    ["a sequence in a sequence without end", { pre_tokenizer: nested(200) }],
    ["no decoder", { decoder: null }],
    ["an unknown decoder", { decoder: { type: "CTC" } }],
  ])("with %s is refused", (_what, change) => {
    expect(() => createTokenizer(withJson(change))).toThrow(TokenizerError);
  });

  it.each(["", "{", "[]", "null", "5", '"x"', "\ufeff{}", "{}"])("that says %j is refused", (text) => {
    expect(() => createTokenizer({ ...nothing, tokenizerJson: bytes(text) })).toThrow(TokenizerError);
  });

  it("whose pattern never comes to an end is stopped", { timeout: 60_000 }, () => {
    const tokenizer = createTokenizer(
      withJson({ pre_tokenizer: { type: "Split", pattern: { Regex: "(a+)+$" }, behavior: "Isolated" } }),
    );
    expect(() => tokenizer.encode(`${"a".repeat(60)}b`)).toThrow(/too long/);
  });

  it("with any one value changed is read or refused, nothing else", () => {
    const values = fc.constantFrom<unknown>(null, -1, 1e9, "x", [], {}, [[]], true, ["a"], { type: "Sequence" });
    const paths = Object.keys(good);
    fc.assert(
      fc.property(fc.constantFrom(...paths), values, (key, value) => {
        try {
          createTokenizer(withJson({ [key]: value })).encode("ab ab");
        } catch (error) {
          expect(error).toBeInstanceOf(ExllamaError);
        }
      }),
    );
  });
});

describe("tokenizer.model", () => {
  const model = demo.tokenizerModel!;

  it.each([0, 1, 2, 100, 5000, model.length - 60, model.length - 1])("cut off after %i bytes is refused", (length) => {
    expect(() => createTokenizer({ ...nothing, tokenizerModel: model.slice(0, length) })).toThrow(TokenizerError);
  });

  it("that is a Git LFS pointer is refused with that guess", () => {
    const pointer = bytes("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 499723\n");
    expect(() => createTokenizer({ ...nothing, tokenizerModel: pointer })).toThrow(
      expect.objectContaining({ code: "TOKENIZER", hint: expect.stringContaining("LFS") }),
    );
  });

  it("with any bytes changed is read or refused, nothing else", () => {
    const change = fc.tuple(fc.nat(model.length - 1), fc.nat(255));
    fc.assert(
      fc.property(fc.array(change, { minLength: 1, maxLength: 4 }), (changes) => {
        const damaged = model.slice();
        for (const [at, byte] of changes) damaged[at] = byte;
        try {
          createTokenizer({ ...nothing, tokenizerModel: damaged }).encode("The careful deer.");
        } catch (error) {
          expect(error).toBeInstanceOf(ExllamaError);
        }
      }),
      { numRuns: 40 },
    );
  });
});

describe("tokenizer_config.json", () => {
  it.each([
    5,
    [],
    { bos_token: 5 },
    { add_bos_token: "yes" },
    { additional_special_tokens: "x" },
    { added_tokens_decoder: { x: { content: "y" } } },
  ])("that says %j is refused", (config) => {
    expect(() => createTokenizer({ ...demo, tokenizerConfig: bytes(config) })).toThrow(TokenizerError);
  });

  it("may write tokens as objects", () => {
    expect(
      createTokenizer({ ...demo, tokenizerConfig: bytes({ bos_token: { content: "<s>" }, eos_token: { content: "<|end|>" } }) }),
    ).toMatchObject({ bosId: 1, eosIds: [5] });
  });
});

describe("a folder", () => {
  it("without a tokenizer is refused, saying what is missing", async () => {
    const folder = await mkdtemp(join(tmpdir(), "exllama-text-"));
    try {
      await expect(loadTokenizer(folder)).rejects.toThrow(/neither tokenizer.json nor tokenizer.model/);
      await mkdir(join(folder, "tokenizer.json"));
      await expect(loadTokenizer(folder)).rejects.toThrow(TokenizerError);
      await rm(join(folder, "tokenizer.json"), { recursive: true });
      // Neither ends: reading the one would fill memory, opening a pipe would wait for its writer.
      await symlink("/dev/zero", join(folder, "tokenizer.json"));
      await expect(loadTokenizer(folder)).rejects.toThrow(/tokenizer.json is not a file/);
      await rm(join(folder, "tokenizer.json"));
      await writeFile(join(folder, "tokenizer.json"), Uint8Array.of(0xff, 0xfe));
      await expect(loadTokenizer(folder)).rejects.toThrow(/not UTF-8/);
    } finally {
      await rm(folder, { recursive: true });
    }
  });
});

function nested(depth: number): object {
  let value: object = { type: "Digits" };
  for (let i = 0; i < depth; i++) value = { type: "Sequence", pretokenizers: [value] };
  return value;
}
