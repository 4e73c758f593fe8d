import { describe, expect, it } from "vitest";
import { expectedIds, promptOf } from "../../test/support/fake-answers.js";
import { expectAllFree, setUp } from "../../test/support/fake-generation.js";
import type { FakeRuntime } from "../../test/support/fake-runtime.js";
import { GREEDY, type SamplingParameters } from "../sampling/parameters.js";
import { sample } from "../sampling/sample.js";
import { GenerationOptionError, PromptTooLongError, TooManySequencesError } from "./errors.js";
import { mixGuidance } from "./guidance.js";
import type { GenerationOptions } from "./request.js";

const prompt = promptOf(50);
const negative = promptOf(300, 2);

interface Wish {
  readonly scale: number;
  readonly count: number;
  readonly parameters?: SamplingParameters;
  readonly seed?: number;
}

/** What must be said, computed from whole texts. */
function guidedIds(runtime: FakeRuntime, { scale, count, parameters = GREEDY, seed = 0 }: Wish): number[] {
  const said: number[] = [];
  while (said.length < count) {
    const [wanted, unwanted] = [prompt, negative].map((ids) => runtime.expectedLogits([...ids, ...said], ids.length));
    const history = Int32Array.from([...prompt, ...said]);
    const request = { parameters, history, promptLength: prompt.length, seed, position: history.length, mask: null };
    said.push(sample(mixGuidance(wanted!, unwanted!, scale), request).id);
  }
  return said;
}

function setUpTwo(model = {}) {
  return setUp({ context: 512, cacheTokens: 2048, maxSequences: 4, prefillChunk: 48, ...model });
}

describe("an answer with guidance", () => {
  it.each([0, 0.7, 1, 1.5, 4])("says what the mixture says, with a scale of %s", async (scale) => {
    const { runtime, scheduler, ask } = setUpTwo();
    const { ids } = await ask({ ids: prompt, options: { maxTokens: 24, guidance: { scale, negative } } });
    expect(ids).toEqual(guidedIds(runtime, { scale, count: 24 }));
    expectAllFree(scheduler);
  });

  it("is the plain answer with a scale of 1, and the negative prompt's with 0", async () => {
    const { runtime, ask } = setUpTwo();
    const said = async (scale: number) =>
      (await ask({ ids: prompt, options: { maxTokens: 20, guidance: { scale, negative } } })).ids;
    expect(await said(1)).toEqual(expectedIds(runtime, prompt, 20));
    expect(await said(0)).toEqual(expectedIds(runtime, negative, 20));
  });

  it("samples from the mixture, penalties looking at the prompt's text", async () => {
    const { runtime, ask } = setUpTwo();
    const changes = { temperature: 0.9, topP: 0.8, repetitionPenalty: 1.4, frequencyPenalty: 0.3 };
    const options: GenerationOptions = { ...changes, seed: 5, maxTokens: 24, guidance: { scale: 2, negative } };
    const { ids } = await ask({ ids: prompt, options });
    expect(ids).toEqual(guidedIds(runtime, { scale: 2, count: 24, parameters: { ...GREEDY, ...changes }, seed: 5 }));
  });

  it("tells log-probabilities of the mixture", async () => {
    const { ask } = setUpTwo();
    const options = { maxTokens: 6, logprobs: 40, guidance: { scale: 1.5, negative } };
    const { tokens } = await ask({ ids: prompt, options });
    for (const { logprob, top } of tokens!) {
      expect(top[0]!.logprob).toBeCloseTo(logprob, 5);
      expect(top.reduce((sum, each) => sum + Math.exp(each.logprob), 0)).toBeCloseTo(1, 5);
    }
  });

  it("keeps to its constraint", async () => {
    const { ask } = setUpTwo();
    const { ids } = await ask({
      ids: prompt,
      options: { maxTokens: 10, bannedIds: [1, 2, 3], guidance: { scale: 3, negative } },
    });
    expect(ids.some((id) => id >= 1 && id <= 3)).toBe(false);
  });

  it.each(["wait", "preempt"] as const)("shares its steps with others (%s)", async (onPressure) => {
    const { runtime, scheduler, ask } = setUp(
      { context: 512, cacheTokens: onPressure === "wait" ? 4096 : 1024, maxSequences: 5, prefillChunk: 48 },
      { onPressure },
    );
    const guided = [1.5, 2].map((scale) => ask({ ids: prompt, options: { maxTokens: 16, guidance: { scale, negative } } }));
    const plain = [3, 4, 5].map((seed) => ask({ ids: promptOf(100, seed), options: { maxTokens: 16 } }));
    const [a, b] = await Promise.all(guided);
    expect(a!.ids).toEqual(guidedIds(runtime, { scale: 1.5, count: 16 }));
    expect(b!.ids).toEqual(guidedIds(runtime, { scale: 2, count: 16 }));
    for (const [i, answer] of (await Promise.all(plain)).entries())
      expect(answer.ids).toEqual(expectedIds(runtime, promptOf(100, i + 3), 16));
    expectAllFree(scheduler);
  });

  it("fills the context as far as the longer prompt lets it", async () => {
    const { ask } = setUpTwo();
    expect((await ask({ ids: prompt, options: { guidance: { scale: 1, negative } } })).ids).toHaveLength(212);
    await expect(async () => ask({ ids: prompt, options: { guidance: { scale: 1, negative: promptOf(512) } } })).rejects.toThrow(
      PromptTooLongError,
    );
  });

  it.each<[string, GenerationOptions, RegExp]>([
    ["beams", { beams: { count: 2, length: 2 } }, /guidance and beams/],
    ["guesses", { speculate: 2 }, /guidance and speculate/],
    ["log-probabilities of the prompt", { promptLogprobs: 0 }, /guidance and promptLogprobs/],
  ])("does not go with %s", async (_, others, message) => {
    const { ask } = setUpTwo();
    const options = { maxTokens: 4, guidance: { scale: 1, negative }, ...others };
    await expect(async () => ask({ ids: prompt, options })).rejects.toThrow(message);
  });

  it.each([
    { scale: -1, negative },
    { scale: Number.NaN, negative },
    { scale: 1 },
    { scale: 1, negative: [] },
    { scale: 1, negative: "text" },
    { scale: 1, negative, more: 1 },
    7,
  ])("refuses %j", async (guidance) => {
    const { ask } = setUpTwo();
    await expect(async () => ask({ ids: prompt, options: { guidance: guidance as never } })).rejects.toThrow(
      GenerationOptionError,
    );
  });

  it("names an id of the negative prompt that the model does not have", async () => {
    const { ask } = setUpTwo();
    const options = { guidance: { scale: 1, negative: [3, 4000] } };
    await expect(async () => ask({ ids: prompt, options })).rejects.toThrow(/token 1 of the negative prompt is 4000/);
  });

  it("needs two places", async () => {
    const { ask } = setUpTwo({ maxSequences: 1 });
    await expect(async () => ask({ ids: prompt, options: { guidance: { scale: 1, negative } } })).rejects.toThrow(
      TooManySequencesError,
    );
  });
});
