// tokenize, inspect, perplexity, logits and bench on the embedded model.

import { copyFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { fixture } from "../support/fixtures.js";
import { jsonOf, runCli } from "../support/run-cli.js";
import { runHere } from "../support/run-here.js";

const demo = fixture("demo-gptq-4bit-g128");
const folder = mkdtempSync(join(tmpdir(), "exllama-cli-"));
afterAll(() => rmSync(folder, { recursive: true }));

function write(name: string, content: string): string {
  const path = join(folder, name);
  writeFileSync(path, content);
  return path;
}

describe("exllama tokenize", () => {
  const golden = (JSON.parse(readFileSync(fixture("tokenizer_golden.json"), "utf8")) as { text: string; ids: number[] }[])[0]!;
  const modelOnly = mkdtempSync(join(folder, "model-"));
  copyFileSync(join(demo, "tokenizer.model"), join(modelOnly, "tokenizer.model"));

  it.each([
    ["tokenizer.json", demo],
    ["tokenizer.model, alone in its folder", modelOnly],
  ])("gives the golden ids from %s", async (_what, model) => {
    const result = await runHere(["tokenize", "--model", model, "--text", golden.text, "--json"]);
    expect(result).toMatchObject({ code: 0, stderr: "" });
    expect(jsonOf(result)).toEqual({ ids: golden.ids });
  });

  it("leaves special spellings and BOS out unless asked", async () => {
    const ids = async (...args: string[]) =>
      jsonOf<{ ids: number[] }>(await runHere(["tokenize", "--model", demo, "--json", ...args])).ids;
    expect(await ids("--text", "<|end|>")).not.toContain(5);
    expect(await ids("--text", "<|end|>", "--parse-special", "--bos")).toEqual([1, 5]);
    expect(await ids("--text", "")).toEqual([]);
  });

  it("goes the other way, and shows pieces to people", async () => {
    expect(jsonOf(await runHere(["tokenize", "--model", demo, "--ids", "1,318,791,4040", "--json"]))).toEqual({
      text: "<s> The end.",
    });
    expect((await runHere(["tokenize", "--model", demo, "--text", "The end."])).stdout).toBe(" 318  ▁The\n 791  ▁end\n4040  .\n");
  });

  it.each([
    ["no text", ["--model", demo], 2, /nothing to tokenize/],
    ["a text and ids", ["--model", demo, "--text", "x", "--ids", "1"], 2, /cannot be used with/],
    ["a folder without a tokenizer", ["--model", folder, "--text", "x"], 1, /neither tokenizer.json nor tokenizer.model/],
  ] as const)("refuses %s", async (_what, args, code, message) => {
    const result = await runHere(["tokenize", ...args]);
    expect(result).toMatchObject({ code, stdout: "" });
    expect(result.stderr).toMatch(message);
  });
});

describe("exllama inspect", () => {
  it("says what the checkpoint is", async () => {
    const json = jsonOf(await runHere(["inspect", demo, "--json"]));
    expect(json).toMatchObject({
      architecture: "llama",
      parameters: 8392960,
      quantization: "GPTQ 4-bit g128",
      layers: 8,
      vocabSize: 4096,
      contextLimit: 2048,
      eosIds: [2, 5],
      tokenizer: "tokenizer.json",
      hasChatTemplate: true,
    });
    expect(json).not.toHaveProperty("tensors");
    const listed = jsonOf<{ tensors: unknown[]; tensorCount: number }>(
      await runHere(["inspect", "--model", demo, "--tensors", "--json"]),
    );
    expect(listed.tensors).toHaveLength(listed.tensorCount);
    expect((await runHere(["inspect", demo])).stdout).toMatch(/quantisation +GPTQ 4-bit g128/);
  });

  it.each(["/nonexistent", folder])("refuses %s", async (path) => {
    const result = await runHere(["inspect", path, "--json"]);
    expect(result.code).toBe(1);
    expect(jsonOf<{ error: object }>(result).error).toMatchObject({
      code: expect.stringMatching(/^CHECKPOINT/),
      message: expect.any(String),
    });
  });
});

describe("exllama perplexity", () => {
  const ids = fixture("val_stories_ids.json");
  const measure = async (...args: string[]) =>
    jsonOf<{ nll: number; ppl: number; tokens: number; windows: number; droppedTokens: number }>(
      await runHere(["perplexity", "--model", demo, "--json", ...args]),
    );

  it("is that of the reference, over windows that share one id", async () => {
    const exact = await measure("--ids", ids, "--window", "256", "--limit", "2", "--cpu-exact");
    expect(exact).toMatchObject({ tokens: 512, windows: 2 });
    expect(exact.ppl).toBeCloseTo(Math.exp(exact.nll), 10);
    const fast = await measure("--ids", ids, "--window", "256", "--limit", "2");
    expect(Math.abs(fast.ppl / exact.ppl - 1)).toBeLessThan(0.005);
  });

  it("adds windows up by their tokens", async () => {
    const all = JSON.parse(readFileSync(ids, "utf8")) as number[];
    const cut = (name: string, begin: number, end: number) => ["--ids", write(name, JSON.stringify(all.slice(begin, end)))];
    const whole = await measure(...cut("whole.json", 0, 129), "--window", "64");
    const first = await measure(...cut("first.json", 0, 101), "--window", "64");
    const second = await measure(...cut("second.json", 64, 129), "--window", "64");
    expect(whole).toMatchObject({ tokens: 128, windows: 2, droppedTokens: 0 });
    expect(first).toMatchObject({ tokens: 64, windows: 1, droppedTokens: 36 });
    expect(whole.nll).toBeCloseTo((first.nll + second.nll) / 2, 6);
    expect(await measure(...cut("first.json", 0, 101), "--window", "64", "--minimum", "30")).toMatchObject({
      tokens: 100,
      windows: 2,
      droppedTokens: 0,
    });
  });

  it("reads a text, and a text per line of JSON", async () => {
    const text = "Once upon a time there was a careful deer called Gus who lived among the ferns.";
    const fromText = (await runHere(["perplexity", "--text", write("text.txt", text)])).stdout;
    const lines = [{ story: text }, { story: "Too short." }, { story: text }].map((line) => JSON.stringify(line)).join("\n");
    const fromLines = await measure("--jsonl", write("texts.jsonl", `${lines}\n`), "--key", "story", "--minimum", "10");
    const [, ppl, tokens] = /^perplexity +(\d+\.\d{4})\n.*^tokens +(\d+) in 1 windows/ms.exec(fromText) ?? [];
    expect(ppl).toBe(fromLines.ppl.toFixed(4));
    expect(fromLines).toMatchObject({ tokens: 2 * Number(tokens), windows: 2, droppedTokens: 3 });
  });

  it.each([
    ["no text", [], 2, /there is no text/],
    ["two texts", ["--ids", ids, "--text", ids], 2, /more than one text/],
    ["a file that is not there", ["--ids", "/nonexistent"], 2, /cannot be read/],
    ["a file that is no list", ["--ids", join(demo, "config.json")], 2, /not a list/],
    ["an id that is none", ["--ids", write("bad.json", "[1, -1]")], 2, /entry 1 of/],
    ["a single id", ["--ids", write("one.json", "[1]")], 2, /nothing to predict/],
    ["lines without the key", ["--jsonl", write("no-key.jsonl", '{"a": 1}\n')], 2, /no text under "text".*--key/s],
    ["a window of no size", ["--ids", ids, "--window", "0"], 2, /at least 1/],
    ["a window past the model's memory", ["--ids", ids, "--window", "40000", "--cpu-memory", "230MiB"], 1, /./],
  ] as const)("refuses %s", async (_what, args, code, message) => {
    const result = await runHere(["perplexity", "--model", demo, ...args]);
    expect(result.stderr).toMatch(message);
    expect(result).toMatchObject({ code, stdout: "" });
  });
});

describe("exllama logits", () => {
  it("prints a row per position, the last ones first to last", async () => {
    const logits = async (...args: string[]) =>
      jsonOf<{ logits: number[][] }>(await runHere(["logits", "--model", demo, "--cpu-exact", "--json", ...args])).logits;
    const three = await logits("--prompt-ids", "1,318,791,4040", "--last", "3");
    expect(three.map((row) => row.length)).toEqual([4096, 4096, 4096]);
    expect(three.flat().every((value) => value === Math.fround(value))).toBe(true);
    expect((await logits("--prompt-ids", "1,318"))[0]).toEqual(three[0]);
  });

  it("shows people the likeliest tokens", async () => {
    const { stdout } = await runHere(["logits", "--model", demo, "--prompt", "Once upon a", "--top", "1", "--cpu-exact"]);
    expect(stdout).toMatch(/^after token 4:\n +\d+\.\d\d % .*" ?time"\n$/);
  });

  it.each([
    ["no prompt", [], 2],
    ["more positions than tokens", ["--prompt-ids", "1,2", "--last", "3"], 2],
    ["an id that is none", ["--prompt-ids", "1,4096"], 1],
  ] as const)("refuses %s", async (_what, args, code) => {
    expect(await runHere(["logits", "--model", demo, ...args])).toMatchObject({ code, stdout: "" });
  });
});

describe("exllama bench", () => {
  const onDemo = ["bench", "--model", demo, "--backend", "cpu", "--warmups", "0"];
  const bench = (...args: string[]) => runHere([...onDemo, ...args]);

  it("measures prompts and decoding at depths and in batches, each several times", async () => {
    const rows = ["--prompt", "16,40", "--tokens", "8", "--depth", "0,40", "--batch", "1,3", "--repeat", "2"];
    const result = await runCli([...onDemo, ...rows, "--json"]);
    const samples = [expect.any(Number), expect.any(Number)];
    const tokensPerSecond = { mean: expect.any(Number), deviation: expect.any(Number), median: expect.any(Number), samples };
    const decode = { kind: "decode", tokens: 8, tokensPerSecond, bytesPerSecond: expect.any(Number), joulesPerToken: null };
    const json = jsonOf<{ rows: { stepBytes: number }[] }>(result);
    expect(json).toMatchObject({
      ...{ backend: "cpu", card: null, context: 256, cache: "f16", readRate: null },
      devices: [{ id: "cpu", planned: expect.any(Number), measured: expect.any(Number) }],
      rows: [
        { name: "pp 16", kind: "prompt", tokens: 16, tokensPerSecond, bytesPerSecond: null },
        { name: "pp 40", kind: "prompt", tokens: 40, tokensPerSecond },
        { name: "tg 8 @ 0", depth: 0, batch: 1, ...decode },
        { name: "tg 8 @ 40", depth: 40, batch: 1, ...decode },
        { name: "tg 8 @ 0 × 3", depth: 0, batch: 3, ...decode },
        { name: "tg 8 @ 40 × 3", depth: 40, batch: 3, ...decode },
      ],
    });
    const [empty, held] = json.rows.slice(2).map(({ stepBytes }) => stepBytes);
    expect(held).toBeGreaterThan(empty!);
  });

  it("shows people a table", async () => {
    const { stdout } = await runCli([...onDemo, "--prompt", "0", "--tokens", "4", "--repeat", "1"]);
    expect(stdout).toMatch(/^.*, cpu\nloaded in .*\ncpu: .* planned, .* measured\n\n +tokens\/s .*\ntg 4 @ 0 +[\d,.]+ +0\.0 /);
  });

  it("takes a shorter prompt where the context leaves no room for the usual one", async () => {
    const json = jsonOf(await bench("--ctx", "64", "--tokens", "0", "--repeat", "1", "--json"));
    expect(json).toMatchObject({ context: 64, rows: [{ name: "pp 63" }] });
  });

  it.each([
    [["--ctx", "256", "--tokens", "256"], /tg 256 @ 0 does not fit the context of 256: it needs 257/],
    [["--tokens", "8", "--batch", "4", "--max-sequences", "2"], /does not fit the sequences of 2/],
    [["--prompt", "0", "--tokens", "0"], /nothing to measure/],
    [["--tokens", "1"], /one token is no decoding/],
    [["--prompt", "512,-1"], /must not be negative/],
    [["--profile", "--repeat", "3"], /--repeat says nothing about a profiled step/],
  ])("refuses %j", async (args, message) => {
    const result = await bench(...args.flat());
    expect(result).toMatchObject({ code: 2, stdout: "" });
    expect(result.stderr).toMatch(message);
  });
});
