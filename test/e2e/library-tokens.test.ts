// What a loaded model tells beside its text: tokens with log-probabilities, vectors, its own state;
// and how it refuses what there is no room for.

import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { EmptyPromptError, loadModel, type Model, NoRoomError, QueueFullError, TooManySequencesError } from "../../src/index.js";

const PROMPT = "Once upon a time, there was a little";

describe("a loaded model", () => {
  let model: Model;
  beforeAll(async () => {
    model = await loadModel(undefined, { ctx: 512, maxSequences: 3, threads: 1 });
  });
  afterAll(() => model.dispose());

  it("tells the log-probabilities that it gives to the same ids as a prompt", async () => {
    const ids = await model.tokenize(PROMPT);
    const generation = model.generate(ids, { maxTokens: 12, temperature: 0, ignoreEos: true, logprobs: 3, promptLogprobs: 2 });
    const told = [];
    let text = "";
    for await (const event of generation.events()) {
      told.push(...(event.tokens ?? []));
      text += event.text;
    }
    const result = await generation.result;
    expect(text).toBe(result.text);
    expect(told).toEqual(result.tokens);
    expect(told.map(({ id }) => id)).toEqual(result.ids);
    expect(Buffer.from(told.flatMap(({ bytes }) => bytes)).toString()).toBe(result.text);
    const scores = await model.logprobs([...ids, ...result.ids]);
    const all = [...(result.promptLogprobs ?? []).slice(1), ...told];
    for (const [i, { logprob }] of all.entries()) expect(logprob).toBeCloseTo(scores[i]!, 4);
    for (const { id, logprob, top } of told) {
      expect(top.length).toBe(3);
      expect(top[0]).toMatchObject({ id }); // greedy
      expect(top[0]!.logprob).toBeCloseTo(logprob, 4);
    }
  });

  it("tells the first token of a prompt and those of special tokens by their spelling", async () => {
    const { promptLogprobs, ids } = await model.generate("Hi", { addBos: true, maxTokens: 0, promptLogprobs: 0 }).result;
    expect(promptLogprobs?.[0]).toMatchObject({ text: "<s>", logprob: null, top: [] });
    expect(promptLogprobs?.[1]?.logprob).toBeLessThan(0);
    expect(ids).toEqual([]);
  });

  it("makes vectors of length 1 that do not depend on what else is asked, alike for texts alike", async () => {
    const inputs = ["A little dog ran home.", "A small dog ran home.", "One, two, three, four, five.", await model.tokenize("x")];
    const [dog, small, numbers, x] = await model.embed(inputs);
    expect(await model.embed([inputs[1]!])).toEqual([small]);
    for (const vector of [dog!, small!, numbers!, x!]) expect(dot(vector, vector)).toBeCloseTo(1, 5);
    expect(dot(dog!, small!)).toBeGreaterThan(dot(dog!, numbers!));
    expect(await model.embed([])).toEqual([]);
    await expect(model.embed(["fine", ""])).rejects.toBeInstanceOf(EmptyPromptError);
  });

  it("says what it does and what it takes", async () => {
    const before = await model.status();
    await model.generate(PROMPT, { maxTokens: 5, ignoreEos: true }).result;
    const { scheduler, counters, devices } = await model.status();
    expect(counters.generatedTokens - before.counters.generatedTokens).toBe(5);
    expect(counters.steps).toBeGreaterThan(before.counters.steps);
    expect(scheduler).toMatchObject({ waiting: 0, running: 0, reservedPages: [0] });
    expect(scheduler.freePages[0]! + scheduler.idlePages[0]!).toBe(scheduler.totalPages[0]);
    expect(devices).toMatchObject([{ id: "cpu", planned: model.plan.devices[0]!.total }]);
    expect(devices[0]!.measured).toBeGreaterThan(1e6);
    expect(devices[0]!.measured).toBeLessThan(devices[0]!.planned);
  });

  it("says which requests run more sequences than it was loaded for", async () => {
    await expect(model.generate(PROMPT, { beams: { count: 4, length: 2 } }).result).rejects.toBeInstanceOf(TooManySequencesError);
  });
});

describe("a model that is loaded with", () => {
  it("a short queue refuses what is too much, and goes on", async () => {
    await using model = await loadModel(undefined, { ctx: 256, maxSequences: 1, maxWaiting: 1, threads: 1 });
    const answers = await Promise.allSettled([1, 2, 3, 4].map(() => model.generate(PROMPT, { maxTokens: 8 }).result));
    expect(answers.map(({ status }) => status)).toEqual(["fulfilled", "fulfilled", "rejected", "rejected"]);
    expect(answers[2]).toMatchObject({ reason: { code: "QUEUE_FULL", details: { maxWaiting: 1 } } });
    expect((answers[3] as PromiseRejectedResult).reason).toBeInstanceOf(QueueFullError);
    expect((await model.generate(PROMPT, { maxTokens: 2, ignoreEos: true }).result).ids.length).toBe(2);
  });

  it('onPressure "refuse" refuses what cannot begin at once', async () => {
    await using model = await loadModel(undefined, { ctx: 256, maxSequences: 1, onPressure: "refuse", threads: 1 });
    const first = model.generate(PROMPT, { maxTokens: 8 }).result;
    await expect(model.generate(PROMPT, { maxTokens: 8 }).result).rejects.toBeInstanceOf(NoRoomError);
    await first;
  });

  it("an onPressure that is none is not loaded", async () => {
    await expect(loadModel(undefined, { onPressure: "panic" as "wait" })).rejects.toThrow(/onPressure cannot be "panic"/);
  });
});

function dot(a: Float32Array, b: Float32Array): number {
  return a.reduce((sum, value, i) => sum + value * b[i]!, 0);
}
