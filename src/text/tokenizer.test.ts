import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { fixture } from "../../test/support/fixtures.js";
import { UsageError } from "../errors.js";
import { createTokenizer, readTextFiles } from "./load.js";

const demo = await readTextFiles(fixture("demo-gptq-4bit-g128"));
const json = createTokenizer(demo);
const model = createTokenizer({ ...demo, tokenizerJson: null });
const byteLevel = await readTextFiles(fixture("demo-gptq-4bit-g128")).then(async (files) => {
  const { readFileSync } = await import("node:fs");
  return createTokenizer({ ...files, tokenizerConfig: null, tokenizerJson: readFileSync(fixture("tokenizers/byte-level.json")) });
});
const all = [
  ["tokenizer.json", json],
  ["tokenizer.model", model],
  ["byte-level", byteLevel],
] as const;

const anyText = fc.oneof(
  fc.string({ unit: "binary", maxLength: 60 }),
  fc.string({ unit: "grapheme", maxLength: 60 }),
  fc
    .array(fc.constantFrom("<|end|>", "<s>", "</s>", " ", "  ", "\n", "The fox", "é", "😀", "<|", "|>", "<0x0A>"), {
      maxLength: 12,
    })
    .map((parts) => parts.join("")),
);

describe.each(all)("special tokens, %s", (_name, tokenizer) => {
  it("never come from user text unless asked", () => {
    fc.assert(
      fc.property(anyText, (text) => {
        expect(tokenizer.encode(text).filter((id) => tokenizer.isSpecial(id))).toEqual([]);
      }),
    );
  });

  it("come from their spelling when asked", () => {
    const end = tokenizer.specialTokens.get("<|end|>")!;
    expect(tokenizer.encode("a<|end|>b<|end|>", { parseSpecial: true }).filter((id) => id === end)).toHaveLength(2);
  });

  it("show in decoded text only when asked", () => {
    const ids = tokenizer.encode("a<|end|>b", { parseSpecial: true });
    expect(tokenizer.decode(ids)).toBe("ab");
    expect(tokenizer.decode(ids, { skipSpecial: false })).toBe("a<|end|>b");
  });
});

describe.each(all)("decoding, %s", (_name, tokenizer) => {
  it("gives back every text", () => {
    fc.assert(
      fc.property(anyText, (raw) => {
        // Metaspace puts its mark only before texts that do not begin with a space, and ▁ itself reads as a space.
        const text = raw.replaceAll("\u2581", "").replace(/^ +/, "");
        expect(tokenizer.decode(tokenizer.encode(text))).toBe(text);
      }),
    );
  });

  it("is the same piece by piece as at once, for any ids", () => {
    const ids = fc.array(fc.nat(tokenizer.vocabSize + 5), { maxLength: 80 });
    fc.assert(
      fc.property(ids, fc.boolean(), fc.boolean(), (list, skipSpecial, continuation) => {
        const stream = tokenizer.stream({ skipSpecial, continuation });
        const pieces = list.map((id) => stream.push(id));
        expect(pieces.join("") + stream.end()).toBe(tokenizer.decode(list, { skipSpecial, continuation }));
        expect(stream.end()).toBe("");
      }),
    );
  });

  it("never emits a part of a character", () => {
    const text = "héllo 世界 😀 👩‍👩‍👧 naïve";
    const stream = tokenizer.stream();
    for (const id of tokenizer.encode(text)) expect(stream.push(id)).not.toMatch(/\ufffd|\p{Surrogate}/u);
    expect(stream.end()).toBe("");
  });
});

describe("BOS", () => {
  it.each(all.slice(0, 2))("is added once, and only when asked (%s)", (_name, tokenizer) => {
    expect(tokenizer.encode("The end.")).toEqual([318, 791, 4040]);
    expect(tokenizer.encode("The end.", { addBos: true })).toEqual([1, 318, 791, 4040]);
    expect(tokenizer.encode("", { addBos: true })).toEqual([1]);
    expect(tokenizer.encode("")).toEqual([]);
  });
});

describe("the space in front of a text", () => {
  it("is put before special tokens by SentencePiece only, the documented difference", () => {
    expect(model.encode("<|user|>\nHi", { parseSpecial: true }).slice(0, 3)).toEqual([4025, 3, 16]);
    expect(json.encode("<|user|>\nHi", { parseSpecial: true }).slice(0, 2)).toEqual([3, 16]);
  });

  it.each(all.slice(0, 2))("is dropped at a text's beginning, and kept in a continuation (%s)", (_name, tokenizer) => {
    const ids = tokenizer.encode("The end.");
    expect(tokenizer.decode(ids)).toBe("The end.");
    expect(tokenizer.decode(ids, { continuation: true })).toBe(" The end.");
  });
});

describe("long texts", () => {
  it.each(all)("have the ids of their lines, for lines are never merged across (%s)", (_name, tokenizer) => {
    const line = "Once upon a time there was a careful deer called Gus, who lived among the ferns. 世界 42!";
    const lines = 300;
    const whole = tokenizer.encode(Array(lines).fill(line).join("\n"));
    const one = tokenizer.encode(`\n${line}`).length - (tokenizer.encode("\n").length - 1);
    expect(Math.abs(whole.length - one * lines)).toBeLessThanOrEqual(2);
    expect(tokenizer.decode(whole)).toBe(Array(lines).fill(line).join("\n"));
  });

  it.each(all)("take 200,000 characters, even of one letter without end (%s)", (_name, tokenizer) => {
    for (const unit of ["a", "ab", " ", "the quick brown fox "]) {
      const text = `x${unit.repeat(200_000 / unit.length)}`;
      expect(tokenizer.decode(tokenizer.encode(text))).toBe(text);
    }
  });
});

describe("decoding what is no id", () => {
  it.each([-1, 0.5, Number.NaN, Number.POSITIVE_INFINITY])("refuses %s", (id) => {
    expect(() => json.decode([id])).toThrow(UsageError);
  });

  it("takes an id past the vocabulary, as a model with padded rows may choose it, for nothing", () => {
    expect(json.decode([4096, 318, 99999])).toBe("The");
  });
});
