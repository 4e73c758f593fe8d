// What a loaded model does, the same in a process and in a thread, on the embedded model.

import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type ChatMessage, GenerationCancelledError, loadModel, type Model, UsageError } from "../../src/index.js";

const PROMPT = "Once upon a time";

describe.each(["process", "thread"] as const)("a model in a %s", (engine) => {
  let model: Model;
  const progress: { loadedBytes: number; totalBytes: number }[] = [];

  beforeAll(async () => {
    model = await loadModel(undefined, { engine, threads: 1, ctx: 1024, onProgress: (part) => progress.push(part) });
  });
  afterAll(() => model.dispose());

  it("says what it is and what it takes", () => {
    expect(model.info).toMatchObject({ architecture: "llama", backend: "cpu", hasChatTemplate: true });
    expect(model.info.parameters).toBeGreaterThan(1e6);
    expect(model.info.quantization).toContain("4-bit");
    const [device] = model.plan.devices;
    expect(device?.total).toBe(device && device.baseline + device.weights + device.kvCache + device.scratch);
    expect(device?.total).toBeLessThanOrEqual(device?.cap ?? 0);
    expect(model.plan.context).toBe(1024);
  });

  it("has reported its loading to the end", () => {
    const last = progress.at(-1);
    expect(last?.loadedBytes).toBe(last?.totalBytes);
    expect(last?.totalBytes).toBeGreaterThan(0);
  });

  it("streams what it then has as a result", async () => {
    const generation = model.generate(PROMPT, { maxTokens: 24, temperature: 0, ignoreEos: true });
    const pieces: string[] = [];
    for await (const piece of generation) pieces.push(piece);
    const result = await generation.result;
    expect(pieces.join("")).toBe(result.text);
    expect(result.ids).toHaveLength(24);
    expect(result.finishReason).toBe("length");
    expect(await model.detokenize(await model.tokenize(result.text))).toBe(result.text);
  });

  it("gives the same answer to the same ids, and to a seed", async () => {
    const ids = await model.tokenize(PROMPT, { addBos: true });
    const byText = await model.generate(PROMPT, { maxTokens: 12, temperature: 0 }).result;
    const byIds = await model.generate(ids, { maxTokens: 12, temperature: 0 }).result;
    expect(byIds).toMatchObject({ ids: byText.ids, promptTokens: ids.length });
    const seeded = () => model.generate(PROMPT, { maxTokens: 12, temperature: 1, seed: 7 }).result;
    expect((await seeded()).ids).toEqual((await seeded()).ids);
  });

  it("answers a chat, and reuses what the turns have in common", async () => {
    const messages: ChatMessage[] = [{ role: "user", content: "Tell me a story about a brave fox." }];
    const first = await model.chat(messages, { maxTokens: 16, temperature: 0 }).result;
    messages.push({ role: "assistant", content: first.text }, { role: "user", content: "And then?" });
    const second = await model.chat(messages, { maxTokens: 8, temperature: 0 }).result;
    expect(second.promptTokens).toBe((await model.tokenizeChat(messages)).length);
    expect(second.timings.reusedTokens).toBeGreaterThan(0);
    expect(second.timings.reusedTokens).toBeLessThan(second.promptTokens);
  });

  it("serves the next request after a loop was left early", async () => {
    const left = model.generate(PROMPT, { maxTokens: 900, ignoreEos: true });
    for await (const _ of left) break;
    await expect(left.result).rejects.toBeInstanceOf(GenerationCancelledError);
    expect((await model.generate(PROMPT, { maxTokens: 4, ignoreEos: true }).result).ids).toHaveLength(4);
  });

  it("stops at a signal, with its reason", async () => {
    const controller = new AbortController();
    const reason = new Error("enough");
    const generation = model.generate(PROMPT, { maxTokens: 900, ignoreEos: true, signal: controller.signal });
    const reading = (async () => {
      for await (const _ of generation) controller.abort(reason);
    })();
    await expect(reading).rejects.toBe(reason);
    await expect(generation.result).rejects.toBe(reason);
    await expect(model.logits([1, 2], { signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
  });

  it("completes several answers at once, each its own", async () => {
    const alone = await model.generate(PROMPT, { maxTokens: 10, temperature: 0 }).result;
    const together = await Promise.all([1, 2, 3].map(() => model.generate(PROMPT, { maxTokens: 10, temperature: 0 }).result));
    for (const answer of together) expect(answer.ids).toEqual(alone.ids);
  });

  it("scores: logits at the last positions, log-probabilities of a text", async () => {
    const ids = await model.tokenize(PROMPT, { addBos: true });
    const rows = await model.logits(ids, { last: 2 });
    expect(rows.map((row) => row.length)).toEqual([model.info.vocabSize, model.info.vocabSize]);
    const logprobs = await model.logprobs(ids);
    expect(logprobs).toHaveLength(ids.length - 1);
    expect(logprobs.every((value) => value < 0)).toBe(true);
    const greedy = await model.generate(ids, { maxTokens: 1, temperature: 0, ignoreEos: true }).result;
    expect(largest(rows.at(-1) ?? new Float32Array())).toBe(greedy.ids[0]);
  });

  it.each([
    ["an empty prompt", () => model.generate([])],
    ["ids that the model does not have", () => model.generate([1e6])],
    ["a prompt longer than the context", () => model.generate(Array<number>(1100).fill(5))],
    ["a temperature below 0", () => model.generate(PROMPT, { temperature: -1 })],
    ["no tokens to generate", () => model.generate(PROMPT, { maxTokens: -1 })],
  ])("refuses %s", async (_, ask) => {
    const error = await ask().result.then(
      () => null,
      (thrown: unknown) => thrown,
    );
    expect(error).toMatchObject({ code: expect.any(String), message: expect.any(String) });
    expect((await model.generate(PROMPT, { maxTokens: 2, ignoreEos: true }).result).ids).toHaveLength(2);
  });

  it("refuses options that do not exist", () => {
    expect(() => model.generate(PROMPT, { temprature: 1 } as object)).toThrow(UsageError);
  });
});

function largest(row: Float32Array): number {
  return row.reduce((best, value, id) => (value > (row[best] ?? 0) ? id : best), 0);
}
