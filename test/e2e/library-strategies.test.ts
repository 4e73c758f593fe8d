// Answers that are more than one token after the other, through the library: guesses of a draft
// model and of the text, guidance, beams; alone and beside plain requests.

import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type GenerateOptions, loadModel, type Model, plan } from "../../src/index.js";
import { fixture } from "../support/fixtures.js";

const demo = fixture("demo-gptq-4bit-g128");
const draft = fixture("draft-fp16");
const shape = { ctx: 512, maxSequences: 6, cacheTokens: 4096, threads: 1, backend: "cpu" } as const;

const story = "Once upon a time there was a little fox who";
const list = "The fox is red. The bear is brown. The fox is red. The bear is brown. The fox is";
const greedy: GenerateOptions = { temperature: 0, maxTokens: 20, ignoreEos: true };
const sampled: GenerateOptions = {
  temperature: 0.8,
  topP: 0.9,
  repetitionPenalty: 1.1,
  seed: 11,
  maxTokens: 20,
  ignoreEos: true,
};

describe("a model with a draft", () => {
  let model: Model;
  beforeAll(async () => {
    model = await loadModel(demo, { ...shape, draft });
  });
  afterAll(() => model.dispose());

  it("is in the plan, as planned without loading", async () => {
    const holders = model.plan.devices.filter((device) => device.draft !== null);
    expect(holders).toHaveLength(1);
    const { threads: _, ...planOptions } = shape;
    const planned = await plan(demo, { ...planOptions, draft });
    expect(planned.devices[0]!.draft).toEqual(holders[0]!.draft);
  });

  it.each([
    ["greedy", greedy],
    ["sampled", sampled],
  ])("says the same with its guesses as without, %s", async (_, options) => {
    for (const prompt of [story, list]) {
      const plain = await model.generate(prompt, { ...options, speculate: 0 }).result;
      expect(plain.speculation).toBeUndefined();
      for (const speculate of [undefined, 7, { tokens: 5, ngram: 2 }]) {
        const { ids, text, speculation } = await model.generate(prompt, { ...options, ...(speculate ? { speculate } : {}) })
          .result;
        expect(ids).toEqual(plain.ids);
        expect(text).toBe(plain.text);
        if (typeof speculate !== "object") expect(speculation!.proposed).toBeGreaterThan(0);
      }
    }
  });

  it("guesses right often enough to be worth it", async () => {
    const before = (await model.status()).guesses;
    const { speculation } = await model.generate(story, greedy).result;
    expect(speculation!.accepted / speculation!.proposed).toBeGreaterThan(0.3);
    const { proposed, accepted } = (await model.status()).guesses;
    expect({ proposed: proposed - before.proposed, accepted: accepted - before.accepted }).toEqual(speculation);
  });

  it("answers everybody as if alone, in batches of all kinds of requests", async () => {
    const requests: GenerateOptions[] = [
      { ...greedy, speculate: 0 },
      { ...greedy, speculate: 4 },
      { ...sampled, speculate: { tokens: 4, ngram: 2 } },
      { ...greedy, guidance: { scale: 1.5, negative: "A sad story about rain." } },
      { ...sampled, guidance: { scale: 2, negative: [1, 500, 700] } },
      { ...greedy, beams: { count: 3, length: 5 } },
      {
        ...greedy,
        guidance: { scale: 1.5, negative: story },
        constraint: { kind: "choice", choices: [" red.", " blue."] },
        ignoreEos: false,
      },
      { ...greedy, constraint: { kind: "regex", pattern: " [a-z ]{20,40}\\." }, ignoreEos: false },
    ];
    const prompts = requests.map((_, i) => (i % 2 ? story : list));
    const alone: (readonly number[])[] = [];
    for (const [i, options] of requests.entries()) alone.push((await model.generate(prompts[i]!, options).result).ids);
    const together = await Promise.all(requests.map((options, i) => model.generate(prompts[i]!, options).result));
    expect(together.map(({ ids }) => ids)).toEqual(alone);
    expect(together[6]!.text).toMatch(/^ (red|blue)\.$/);
    const { scheduler } = await model.status();
    expect(scheduler).toMatchObject({ waiting: 0, running: 0 });
    expect(scheduler.reservedPages.every((pages) => pages === 0)).toBe(true);
  });

  it("refuses a draft that speaks of other tokens", async () => {
    const other = fixture("tiny/llama-mha");
    await expect(loadModel(demo, { ...shape, draft: other })).rejects.toMatchObject({ code: "DRAFT_MISMATCH" });
  });
});

describe("guidance", () => {
  it("leads away from what the negative prompt asks for, in text and in chats", async () => {
    await using model = await loadModel(demo, shape);
    const options = { ...greedy, ignoreEos: false };
    const plain = await model.generate(story, options).result;
    const one = await model.generate(story, { ...options, guidance: { scale: 1, negative: list } }).result;
    expect(one.ids).toEqual(plain.ids);
    const other = await model.generate(list, options).result;
    const zero = await model.generate(story, { ...options, guidance: { scale: 0, negative: list } }).result;
    expect(zero.ids).toEqual(other.ids);

    const system = { role: "system", content: "You are a pirate." } as const;
    const question = { role: "user", content: "Tell me a story about a dog." } as const;
    const asPirate = await model.chat([system, question], options).result;
    const negated = await model.chat([question], { ...options, guidance: { scale: 0, negative: "You are a pirate." } }).result;
    expect(negated.ids).toEqual(asPirate.ids);
    const withoutSystem = await model.chat([question], options).result;
    const unguided = await model.chat([system, question], { ...options, guidance: { scale: 0, negative: "" } }).result;
    expect(unguided.ids).toEqual(withoutSystem.ids);
  });
});
