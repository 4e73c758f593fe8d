// Requests that cannot be served: each ends with its own code, and the model serves the next.

import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type GenerateOptions, type LoadOptions, loadModel, type Model, plan } from "../../src/index.js";
import { AskedEngine } from "../support/asked-engine.js";
import { SpoiledCheckpoint } from "./spoiled-checkpoint.js";

const checkpoint = new SpoiledCheckpoint();
afterAll(() => checkpoint[Symbol.dispose]());

async function codeOf(ask: () => Promise<unknown>): Promise<string> {
  try {
    await ask();
  } catch (error) {
    expect(error).toMatchObject({ code: expect.any(String), message: expect.stringMatching(/.{10}/) });
    return (error as { code: string }).code;
  }
  return "no error at all";
}

describe("a loaded model refuses", () => {
  let model: Model;
  beforeAll(async () => {
    model = await loadModel(checkpoint.folder, { ctx: 256, threads: 1 });
  });
  afterAll(() => model.dispose());

  const requests: [string, string, (model: Model) => Promise<unknown>][] = [
    ["a prompt of no ids", "EMPTY_PROMPT", (m) => m.generate([]).result],
    ["a prompt of no text", "EMPTY_PROMPT", (m) => m.generate("", { addBos: false }).result],
    ["a prompt longer than the context", "PROMPT_TOO_LONG", (m) => m.generate(Array(257).fill(5)).result],
    ["a prompt that fills the context", "PROMPT_TOO_LONG", (m) => m.generate(Array(256).fill(5)).result],
    ["an id beyond the vocabulary", "TOKEN_ID", (m) => m.generate([1, 320]).result],
    ["logits of no ids", "EMPTY_PROMPT", (m) => m.logits([])],
    ["logits of an id beyond the vocabulary", "TOKEN_ID", (m) => m.logits([320])],
    ["logits of more ids than the context", "PROMPT_TOO_LONG", (m) => m.logits(Array(257).fill(5))],
    ["log-probabilities of more ids than the context", "PROMPT_TOO_LONG", (m) => m.logprobs(Array(258).fill(5))],
    ["a chat without a template", "CHAT_TEMPLATE", (m) => m.chat([{ role: "user", content: "hello" }]).result],
    ["an id to detokenize beyond the vocabulary", "TOKEN_ID", (m) => m.detokenize([320])],
  ];
  it.each(requests)("%s: %s", async (_, code, ask) => {
    expect(await codeOf(() => ask(model))).toBe(code);
    expect((await model.generate([1, 2, 3], { maxTokens: 2, ignoreEos: true }).result).ids).toHaveLength(2);
  });

  const options: [string, GenerateOptions][] = [
    ["a temperature below 0", { temperature: -1 }],
    ["a temperature that is not a number", { temperature: Number.NaN }],
    ["a top-p above 1", { topP: 1.5 }],
    ["half a top-k", { topK: 0.5 }],
    ["no tokens", { maxTokens: -1 }],
    ["a stop string of no characters", { stop: "" }],
    ["an option that does not exist", { temprature: 1 } as GenerateOptions],
    ["a bias for an id beyond the vocabulary", { logitBias: [[320, 1]] }],
  ];
  it.each(options)("%s: a usage error", async (_, wrong) => {
    expect(await codeOf(async () => model.generate([1, 2, 3], wrong).result)).toMatch(/^(USAGE|TOKEN_ID)$/);
    expect((await model.generate([1, 2, 3], { maxTokens: 2, ignoreEos: true }).result).ids).toHaveLength(2);
  });
});

describe("planning and loading refuse", () => {
  const engine = new AskedEngine();
  afterAll(() => engine.end());

  const wishes: [string, string, LoadOptions][] = [
    ["a cap that not even the engine fits", "PLAN_NO_DEVICE", { ctx: 512, cpuMemory: 2 ** 20 }],
    ["a cache larger than the cap", "PLAN_DOES_NOT_FIT", { ctx: 512, cpuMemory: "1GiB", cacheTokens: 2 ** 24 }],
    ["a context larger than the model's", "PLAN_CONTEXT_ABOVE_MODEL_LIMIT", { ctx: 1024 }],
    ["a context of 0", "USAGE", { ctx: 0 }],
    ["a context that is not whole", "USAGE", { ctx: 100.5 }],
    ["a cap that cannot be read", "USAGE", { gpuSplit: "five" }],
    ["an unknown split mode", "USAGE", { gpuSplit: "1", splitMode: "sideways" as "even" }],
    ["an unknown cache type", "USAGE", { cache: "q3" as "q4" }],
    ["an unknown backend", "USAGE", { backend: "tpu" as "cpu" }],
    ["an option that does not exist", "USAGE", { context: 512 } as LoadOptions],
    ["a RoPE base of 0", "USAGE", { ropeTheta: 0 }],
  ];
  it.each(wishes)("%s: %s", async (_, code, options) => {
    expect(await codeOf(() => engine.plan(checkpoint.folder, options))).toBe(code);
    expect(await codeOf(() => engine.load(checkpoint.folder, options))).toBe(code);
  });

  it("in engines of their own, too", async () => {
    const [, code, options] = wishes[0]!;
    expect(await codeOf(() => plan(checkpoint.folder, options))).toBe(code);
    expect(await codeOf(() => loadModel(checkpoint.folder, options))).toBe(code);
  });

  it.each([
    ["no threads", { threads: 0 }],
    ["half a thread", { threads: 1.5 }],
    ["another kind of engine", { engine: "container" as "process" }],
  ])("%s", async (_, options) => {
    expect(await codeOf(() => loadModel(checkpoint.folder, { ctx: 256, ...options }))).toBe("USAGE");
  });

  it("a context larger than memory holds", async () => {
    using other = new SpoiledCheckpoint();
    other.config({ max_position_embeddings: 2 ** 24 });
    const options = { ctx: 2 ** 24, cpuMemory: "1GiB" };
    for (const asked of ["plan", "load"] as const) {
      await expect(engine[asked](other.folder, options)).rejects.toMatchObject({
        code: "PLAN_DOES_NOT_FIT",
        details: { device: "cpu", cap: 2 ** 30 },
      });
    }
  });

  it("text for a model without a tokenizer, which runs on ids all the same", async () => {
    using other = new SpoiledCheckpoint();
    other.remove("tokenizer.json");
    await using model = await loadModel(other.folder, { ctx: 256, threads: 1 });
    const requests = [() => model.generate("hello").result, () => model.tokenize("hello"), () => model.detokenize([5])];
    for (const ask of requests) expect(await codeOf(ask)).toBe("TOKENIZER");
    expect((await model.generate([1, 2, 3], { maxTokens: 2, ignoreEos: true }).result).ids).toHaveLength(2);
  });

  it("a model whose tokenizer is damaged", async () => {
    using other = new SpoiledCheckpoint();
    other.cut("tokenizer.json", 1000);
    expect(await codeOf(() => engine.load(other.folder, { ctx: 256 }))).toBe("TOKENIZER");
  });
});
