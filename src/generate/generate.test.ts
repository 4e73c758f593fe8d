import { describe, expect, it } from "vitest";
import { expectedIds, force, letters, lettersOf, promptOf } from "../../test/support/fake-answers.js";
import { expectAllFree, setUp } from "../../test/support/fake-generation.js";
import { SamplingParameterError } from "../sampling/errors.js";
import { logSoftmaxAt, topLogprobs } from "../sampling/logprobs.js";
import { GREEDY } from "../sampling/parameters.js";
import { CacheTooSmallError, EmptyPromptError, GenerationOptionError, PromptTooLongError, TokenIdError } from "./errors.js";
import { generate, readToEnd } from "./generate.js";
import type { GenerationEvent, GenerationRequest, GenerationResult } from "./request.js";

describe("generate", () => {
  it("streams what the model says, and ends with the whole of it", async () => {
    const { runtime, scheduler, context } = setUp();
    const prompt = promptOf(100);
    const events: GenerationEvent[] = [];
    const result = await readToEnd(generate(context, { ids: prompt, options: { maxTokens: 20 } }), (event) => events.push(event));
    expect(result.ids).toEqual(expectedIds(runtime, prompt, 20));
    expect(result).toMatchObject({ text: lettersOf(result.ids), promptTokens: 100, finishReason: "length" });
    expect(events.map(({ text }) => text).join("")).toBe(result.text);
    expect(events.flatMap(({ ids }) => ids)).toEqual(result.ids);
    expect(events.length).toBeGreaterThan(1);
    expectAllFree(scheduler);
  });

  it.each([
    [true, " "],
    [false, ""],
  ])("keeps the first word's space when the answer continues the prompt's text: %s", async (continuation, begins) => {
    const { runtime, ask } = setUp();
    force(runtime, () => 30);
    const { text } = await ask({ ids: [1], continuation, options: { maxTokens: 2 } });
    expect(text).toBe(`${begins}e e`);
  });

  it("is the same for the same seed, whatever shares its steps, and another for another", async () => {
    const options = { maxTokens: 30, temperature: 1, topK: 20, seed: 7 };
    const prompt = promptOf(90);
    const alone = await setUp().ask({ ids: prompt, options });
    const { ask } = setUp({ maxSequences: 3, cacheTokens: 2048, prefillChunk: 50 });
    const [busy] = await Promise.all([
      ask({ ids: prompt, options }),
      ask({ ids: promptOf(200, 2), options: { maxTokens: 60, temperature: 2 } }),
      ask({ ids: promptOf(20, 3), options: { maxTokens: 10 } }),
    ]);
    expect(busy.ids).toEqual(alone.ids);
    const other = await setUp().ask({ ids: prompt, options: { ...options, seed: 8 } });
    expect(other.ids).not.toEqual(alone.ids);
  });

  it("tells every token's own bytes and log-probability, and the likeliest beside it", async () => {
    const { runtime, context } = setUp();
    const prompt = promptOf(70);
    const events: GenerationEvent[] = [];
    const stream = generate(context, { ids: prompt, options: { maxTokens: 6, logprobs: 2 } });
    const result = await readToEnd(stream, (event) => events.push(event));
    expect(events.flatMap(({ tokens }) => tokens)).toEqual(result.tokens);
    for (const [i, id] of result.ids.entries()) {
      const logits = runtime.expectedLogits([...prompt, ...result.ids.slice(0, i)], prompt.length);
      const shown = (likely: { id: number; logprob: number }) => {
        const bytes = Array.from(letters.bytes(likely.id));
        return { ...likely, bytes, text: String.fromCharCode(...bytes) };
      };
      const top = topLogprobs(logits, 2).map(shown);
      expect(result.tokens?.[i]).toEqual({ ...shown({ id, logprob: logSoftmaxAt(logits, id) }), top });
    }
  });

  it("tells a stop string's tokens too, and no log-probabilities unless asked", async () => {
    const { runtime, ask } = setUp({ eosIds: [9] });
    force(runtime, (position) => position - 5);
    const result = await ask({ ids: promptOf(5), options: { stop: "CD", logprobs: 0 } });
    expect(result.tokens?.map(({ text, top }) => [text, top])).toEqual(["A", "B", "C", "D"].map((text) => [text, []]));
    expect("tokens" in (await ask({ ids: promptOf(5), options: { maxTokens: 2 } }))).toBe(false);
  });

  it.each([0, 4])(
    "tells the prompt's log-probabilities, whatever was reused before, with %i tokens generated",
    async (maxTokens) => {
      const { runtime, ask, scheduler } = setUp();
      const prompt = promptOf(150);
      await ask({ ids: prompt, options: { maxTokens: 3 } });
      const result = await ask({ ids: prompt, options: { maxTokens, promptLogprobs: 1 } });
      expect(result).toMatchObject({ finishReason: "length", timings: { reusedTokens: 0 } });
      expect(result.ids).toEqual(expectedIds(runtime, prompt, maxTokens));
      expect(result.promptLogprobs?.map(({ id }) => id)).toEqual(prompt);
      expect(result.promptLogprobs?.[0]).toMatchObject({ logprob: null, top: [] });
      for (let i = 1; i < prompt.length; i += 29) {
        const logits = runtime.expectedLogits(prompt.slice(0, i), prompt.length);
        expect(result.promptLogprobs?.[i]?.logprob).toBe(logSoftmaxAt(logits, prompt[i]!));
        expect(result.promptLogprobs?.[i]?.top).toMatchObject(topLogprobs(logits, 1));
      }
      expectAllFree(scheduler);
    },
  );

  it.each([
    [{ logprobs: -1 }, /0 to 100/],
    [{ promptLogprobs: 101 }, /0 to 100/],
    [{ maxTokens: 0 }, /at least 1/],
  ])("refuses %j", async (options, message) => {
    expect(() => generate(setUp().context, { ids: [1], options })).toThrow(message);
  });

  it("takes a random seed when none is given", async () => {
    const answers = await Promise.all(
      Array.from({ length: 4 }, () => setUp().ask({ ids: [1, 2], options: { maxTokens: 20, temperature: 5 } })),
    );
    expect(new Set(answers.map(({ text }) => text)).size).toBeGreaterThan(1);
  });

  it.each([
    ["of the model", { eosIds: [5] }, {}],
    ["of the request", {}, { stopIds: [5] }],
  ])("ends at an end id %s, which is no part of the answer", async (_, model, options) => {
    const { runtime, ask } = setUp(model);
    force(runtime, (position) => (position === 14 ? 5 : 9));
    const result = await ask({ ids: promptOf(10), options });
    expect(result).toMatchObject({ ids: [9, 9, 9, 9], text: "JJJJ", finishReason: "stop" });
  });

  it("goes on past the model's end ids when told to, but not past the request's", async () => {
    const { runtime, ask } = setUp({ eosIds: [5] });
    force(runtime, (position) => (position < 15 ? 5 : 6));
    const result = await ask({ ids: promptOf(10), options: { ignoreEos: true, stopIds: [6] } });
    expect(result).toMatchObject({ ids: [5, 5, 5, 5, 5], finishReason: "stop" });
  });

  it("ends before a stop string and never shows a part of it", async () => {
    const { runtime, context } = setUp();
    const spoken = [0, 1, 2, 0, 1, 3, 4]; // ABCABDE
    force(runtime, (position) => spoken[position - 5]!);
    const seen: string[] = [];
    const stream = generate(context, { ids: promptOf(5), options: { stop: ["ABD", "ZZ"] } });
    const result = await readToEnd(stream, ({ text }) => seen.push(text));
    expect(result).toMatchObject({ text: "ABC", ids: [0, 1, 2, 0, 1, 3], finishReason: "stop" });
    expect(seen.filter(Boolean)).toEqual(["ABC"]);
  });

  it("hands out what looked like a stop string when the answer ends otherwise", async () => {
    const { runtime, ask } = setUp();
    force(runtime, () => 0);
    expect(await ask({ ids: [1], options: { stop: "AAAB", maxTokens: 5 } })).toMatchObject({
      text: "AAAAA",
      finishReason: "length",
    });
  });

  it("ends at the end of the context", async () => {
    const { runtime, scheduler, ask } = setUp({ context: 300 });
    const prompt = promptOf(290);
    const result = await ask({ ids: prompt, options: { maxTokens: 1000 } });
    expect(result).toMatchObject({ ids: expectedIds(runtime, prompt, 10), finishReason: "length" });
    expectAllFree(scheduler);
  });

  it("fills a KV pool that is smaller than the context when no length is asked for", async () => {
    const { ask } = setUp({ context: 1024, cacheTokens: 256 });
    expect((await ask({ ids: promptOf(200) })).ids.length).toBe(56);
  });

  it("applies penalties to what was said, and bans BOS in sampled answers", async () => {
    const { runtime, ask } = setUp({ bosId: 1 });
    runtime.shape = (logits) => {
      logits.fill(-1000);
      logits[1] = 50;
      logits[2] = 40;
      logits[3] = 39;
    };
    const options = { maxTokens: 4, temperature: 0.01, repetitionPenalty: 1.1, seed: 1 };
    expect((await ask({ ids: [0], options })).ids).toEqual([2, 3, 2, 2]);
    expect((await ask({ ids: [0], options: { maxTokens: 2 } })).ids).toEqual([1, 1]); // greedy is the plain argmax
  });

  it("takes the defaults of the model where the request says nothing, but adds no penalty to greedy", async () => {
    const { runtime, context } = setUp();
    const defaults = { ...GREEDY, temperature: 1, repetitionPenalty: 3, topK: 5 };
    const ask = (options: object) => readToEnd(generate({ ...context, defaults }, { ids: [1, 2, 3], options }), () => {});
    const sampled = await ask({ maxTokens: 30, seed: 4 });
    expect(sampled.ids).toEqual(expectedIds(runtime, [1, 2, 3], 30, { parameters: defaults, seed: 4 }));
    const greedy = await ask({ maxTokens: 30, temperature: 0 });
    expect(greedy.ids).toEqual(expectedIds(runtime, [1, 2, 3], 30));
  });

  it("does not run ahead of a reader by more than some tokens", async () => {
    const { runtime, context, scheduler } = setUp();
    const stream = generate(context, { ids: [1], options: { maxTokens: 400 } });
    await stream.next();
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(runtime.steps.length).toBeLessThan(80);
    const result = await readToEnd(stream, () => {});
    expect(result.ids).toEqual(expectedIds(runtime, [1], 400));
    expectAllFree(scheduler);
  });

  it("frees everything when the reader leaves", async () => {
    const { context, scheduler } = setUp();
    for await (const { ids } of generate(context, { ids: promptOf(50) })) if (ids.length > 0) break;
    expectAllFree(scheduler);
    const unread = generate(context, { ids: promptOf(50) });
    await unread.return();
    expect(await unread.next()).toEqual({ done: true, value: undefined });
    expectAllFree(scheduler);
  });

  it("ends with the signal's reason, within one step, wherever it is", async () => {
    for (const abortAtStep of [0, 1, 3, 8]) {
      const { runtime, scheduler, ask } = setUp();
      const controller = new AbortController();
      const reason = new Error("no longer wanted");
      runtime.beforeStep = () => {
        if (runtime.steps.length === abortAtStep) controller.abort(reason);
      };
      await expect(ask({ ids: promptOf(150) }, controller.signal)).rejects.toBe(reason);
      expect(runtime.steps.length).toBe(abortAtStep + 1);
      expectAllFree(scheduler);
    }
  });

  it("does not begin when the signal is aborted already", () => {
    const { context, scheduler } = setUp();
    const reason = new Error("too late");
    expect(() => generate(context, { ids: [1] }, AbortSignal.abort(reason))).toThrow(reason);
    expectAllFree(scheduler);
  });

  it("a waiting request can be aborted, and those after it have their turn", async () => {
    const { context, ask, scheduler } = setUp();
    const first = ask({ ids: promptOf(10), options: { maxTokens: 50 } });
    const controller = new AbortController();
    const second = ask({ ids: promptOf(10, 2) }, controller.signal);
    const third = readToEnd(generate(context, { ids: promptOf(10, 3), options: { maxTokens: 5 } }), () => {});
    setTimeout(() => controller.abort(), 1);
    await expect(second).rejects.toThrow("aborted");
    expect((await first).ids.length).toBe(50);
    expect((await third).ids.length).toBe(5);
    expectAllFree(scheduler);
  });

  it.each<[string, GenerationRequest, new (...args: never[]) => Error, RegExp]>([
    ["an empty prompt", { ids: [] }, EmptyPromptError, /empty/],
    ["a prompt longer than the context", { ids: promptOf(513) }, PromptTooLongError, /513 tokens.*context of 512/],
    ["a prompt that fills the context", { ids: promptOf(512) }, PromptTooLongError, /no room/],
    ["an id past the vocabulary", { ids: [1, 40] }, TokenIdError, /token 1 of the prompt is 40.*vocabulary of 40/],
    ["a negative id", { ids: [-1] }, TokenIdError, /-1/],
    ["a broken id", { ids: [1.5] }, TokenIdError, /1.5/],
    ["a stop id past the vocabulary", { ids: [1], options: { stopIds: [40] } }, TokenIdError, /stopIds/],
    ["a banned id past the vocabulary", { ids: [1], options: { bannedIds: [99] } }, TokenIdError, /bannedIds/],
    ["a bias past the vocabulary", { ids: [1], options: { logitBias: [[41, 1]] } }, TokenIdError, /logitBias/],
    ["a temperature below 0", { ids: [1], options: { temperature: -1 } }, SamplingParameterError, /temperature/],
    ["no tokens at all", { ids: [1], options: { maxTokens: 0 } }, GenerationOptionError, /maxTokens cannot be 0/],
    ["an empty stop string", { ids: [1], options: { stop: ["a", ""] } }, GenerationOptionError, /stop cannot be/],
    ["half a character as a stop string", { ids: [1], options: { stop: "\ud83d" } }, GenerationOptionError, /stop cannot be/],
    ["a fractional seed", { ids: [1], options: { seed: 0.5 } }, GenerationOptionError, /seed/],
    [
      "an unknown option",
      { ids: [1], options: { maxToken: 5 } as object },
      GenerationOptionError,
      /no generation option "maxToken"/,
    ],
  ])("refuses %s before anything runs", (_, request, error, message) => {
    const { context, scheduler, runtime } = setUp();
    const refusal = expect(() => generate(context, request));
    refusal.toThrow(error);
    refusal.toThrow(message);
    expectAllFree(scheduler);
    expect(runtime.steps).toEqual([]);
  });

  it("refuses an answer that could never fit the KV pool", () => {
    const { context } = setUp({ context: 1024, cacheTokens: 512 });
    const request = { ids: promptOf(500), options: { maxTokens: 100 } };
    expect(() => generate(context, request)).toThrow(CacheTooSmallError);
    expect(() => generate(context, request)).toThrow(/599 positions.*3 KV pages.*the cache has 2/);
  });

  it("measures", async () => {
    const { ask } = setUp();
    const { timings }: GenerationResult = await ask({ ids: promptOf(100), options: { maxTokens: 10 } });
    expect(timings.firstTokenMs).toBeGreaterThanOrEqual(timings.promptMs);
    expect(timings.promptTokensPerSecond).toBeCloseTo((100 * 1000) / timings.promptMs);
    expect(timings.tokensPerSecond).toBeCloseTo((9 * 1000) / timings.generationMs);
    expect(timings.reusedTokens).toBe(0);
  });
});
