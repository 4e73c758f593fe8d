// LoRA adapters by name, per request, on the embedded model.

import { afterAll, beforeAll, describe, expect, it } from "vitest";
import {
  type AdapterChoice,
  demoModel,
  ExllamaError,
  GenerationOptionError,
  loadModel,
  type Model,
  plan,
} from "../../src/index.js";
import { AskedEngine } from "../support/asked-engine.js";
import { fixture } from "../support/fixtures.js";

const adapters = { pirate: fixture("lora-pirate"), brief: fixture("lora-brief") };
const question = [{ role: "user", content: "Tell me a story about a fox." }];
const wishes: readonly (readonly AdapterChoice[])[] = [
  [],
  [{ name: "pirate" }],
  [
    { name: "brief", weight: 0.5 },
    { name: "pirate", weight: 0.7 },
  ],
  [{ name: "brief" }],
];

describe("adapters of a loaded model", () => {
  let model: Model;
  beforeAll(async () => {
    model = await loadModel(undefined, { engine: "thread", threads: 1, adapters, ctx: 1024, maxSequences: 4, cacheTokens: 4096 });
  });
  afterAll(() => model.dispose());

  const answer = (choices: readonly AdapterChoice[]) =>
    model.chat(question, { adapters: choices, temperature: 0, maxTokens: 16 }).result;

  it("are named, with their ranks, in the model and in its plan", async () => {
    const named = [
      { name: "pirate", rank: 8 },
      { name: "brief", rank: 4 },
    ];
    expect(model.info.adapters).toEqual(named);
    expect(model.plan.adapters).toEqual(named);
    const planned = await plan(undefined, { adapters, ctx: 1024, maxSequences: 4, cacheTokens: 4096 });
    expect(planned.devices.map(({ stage }) => stage)).toEqual(model.plan.devices.map(({ stage }) => stage));
    const without = await plan(undefined, { ctx: 1024, maxSequences: 4, cacheTokens: 4096 });
    expect(without.devices[0]!.weights).toBeLessThan(planned.devices[0]!.weights);
  });

  it("speak as they were trained to", async () => {
    expect((await answer([{ name: "pirate" }])).text).toMatch(/^Arr, my friend/);
    expect((await answer([])).text).not.toMatch(/^Arr/);
    expect((await answer([{ name: "pirate", weight: 0 }])).ids).toEqual((await answer([])).ids);
  });

  it("never go on from KV that others left, and find their own again", async () => {
    const last = wishes.at(-1)!;
    await using fresh = await loadModel(undefined, { engine: "thread", threads: 1, adapters, ctx: 1024 });
    const alone = await fresh.chat(question, { adapters: last, temperature: 0, maxTokens: 16 }).result;
    const other = [{ role: "user", content: "Tell me a story about a fox and a bear." }];
    const rounds: (readonly number[])[][] = [[], []];
    for (const round of rounds)
      for (const [i, choices] of wishes.entries()) {
        const { ids, timings } = await answer(choices);
        round.push(ids);
        if (round === rounds[1]) expect(timings.reusedTokens).toBeGreaterThan(0);
        await model.chat(other, { temperature: 0, maxTokens: 4, adapters: wishes[(i + 1) % 4]! }).result;
      }
    expect(rounds[0]!.at(-1)).toEqual(alone.ids);
    expect(rounds[1]).toEqual(rounds[0]);
  });

  it("are each request's own where requests share steps", async () => {
    const alone = [];
    for (const choices of wishes) alone.push((await answer(choices)).ids);
    const together = await Promise.all(wishes.map(answer));
    expect(together.map(({ ids }) => ids)).toEqual(alone);
    expect(new Set(alone.map(String)).size).toBe(wishes.length);
  });

  it("take part in scores and vectors", async () => {
    const ids = await model.tokenizeChat(question);
    for (const choices of wishes.slice(1)) {
      expect(await model.logits(ids, { adapters: choices })).not.toEqual(await model.logits(ids));
      expect(await model.logprobs(ids, { adapters: choices })).not.toEqual(await model.logprobs(ids));
      expect(await model.embed([ids], { adapters: choices })).not.toEqual(await model.embed([ids]));
    }
  });

  it.each([
    ["a name that is none", [{ name: "pirates" }], /no adapter "pirates"/],
    ["one twice", [{ name: "brief" }, { name: "brief" }], /asked for twice/],
    ["a weight that is none", [{ name: "brief", weight: Number.NaN }], /adapters cannot be/],
  ])("refuse %s", async (_, choices, message) => {
    await expect(answer(choices)).rejects.toThrow(GenerationOptionError);
    await expect(answer(choices)).rejects.toThrow(message);
    await expect(model.logits([1], { adapters: choices })).rejects.toThrow(GenerationOptionError);
  });
});

describe("adapters that cannot be loaded", () => {
  const engine = new AskedEngine();
  afterAll(() => engine.end());

  it.each([
    ["nothing there", { a: "/nowhere/at/all" }, "ADAPTER_NOT_FOUND"],
    ["a folder of something else", { a: fixture("tiny/llama-mha") }, "ADAPTER_NOT_FOUND"],
    ["a name that cannot be", { "a b": fixture("lora-brief") }, "USAGE"],
  ])("end the load before memory is taken: %s", async (_, wrong, code) => {
    for (const asked of ["plan", "load"] as const) {
      const failure = await engine[asked](demoModel, { adapters: wrong }).catch((error: unknown) => error);
      expect(failure).toBeInstanceOf(ExllamaError);
      expect(failure).toMatchObject({ code });
    }
  });

  it("are refused by a model that they were not made for", async () => {
    await expect(engine.load(fixture("tiny/llama-mha"), { adapters })).rejects.toMatchObject({
      code: "ADAPTER_TENSOR",
      message: expect.stringMatching(/this model has 3|needs \[rank/),
    });
  });
});
