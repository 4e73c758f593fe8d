import { describe, expect, it } from "vitest";
import { expectedIds, force, promptOf } from "../../../test/support/fake-answers.js";
import { expectAllFree, setUp } from "../../../test/support/fake-generation.js";
import { type FakeModel, FakeRuntime } from "../../../test/support/fake-runtime.js";
import { GREEDY } from "../../sampling/parameters.js";
import { generate, readToEnd } from "../generate.js";
import type { GenerationOptions } from "../request.js";
import type { SchedulerOptions } from "../scheduler.js";

/** A draft that agrees with the model but at every n-th position. */
function draftOf(model: FakeModel, wrongEvery: number): FakeRuntime {
  const draft = new FakeRuntime(model);
  draft.shape = (logits, position) => {
    if (position % wrongEvery === 0) logits.reverse();
  };
  return draft;
}

function setUpDraft(model: FakeModel, wrongEvery = 5, options: SchedulerOptions = {}) {
  const draft = draftOf(model, wrongEvery);
  return { ...setUp({ ...model, draft }, options), draft };
}

/** Says the same seven ids again and again, but for a few places. */
function repeat(runtime: FakeRuntime): void {
  force(runtime, (position) => (position % 50 === 0 ? 39 : 1 + (position % 7)));
}

const sampled: GenerationOptions = { temperature: 1.3, topP: 0.9, repetitionPenalty: 1.2, seed: 77 };
const sampling = { parameters: { ...GREEDY, temperature: 1.3, topP: 0.9, repetitionPenalty: 1.2 }, seed: 77 };

const models: [string, FakeModel][] = [
  ["the whole context", { context: 1024, prefillChunk: 64 }],
  ["chunks smaller than the guesses", { context: 1024, prefillChunk: 3 }],
  ["a window", { context: 1024, windows: [60], prefillChunk: 32 }],
  ["a window beside the whole context", { context: 1024, windows: [null, 270], prefillChunk: 32 }],
  [
    "rotations that depend on the length",
    {
      context: 1024,
      prefillChunk: 32,
      rope: { kind: "dynamic", theta: 10000, factor: 4, originalContext: 330 },
    },
  ],
];

describe("guesses of a draft model", () => {
  it.each(models)("change no answer, greedy or sampled: %s", async (_, model) => {
    const { runtime, scheduler, context, ask } = setUpDraft({ ...model, maxSequences: 2, cacheTokens: 4096 });
    for (const length of [5, 300]) {
      const prompt = promptOf(length);
      const greedy = await ask({ ids: prompt, options: { maxTokens: 60, speculate: 5 } });
      expect(greedy.ids).toEqual(expectedIds(runtime, prompt, 60));
      const drawn = await ask({ ids: prompt, options: { maxTokens: 60, speculate: 3, ...sampled } });
      expect(drawn.ids).toEqual(expectedIds(runtime, prompt, 60, sampling));
    }
    for (const each of [scheduler, context.speculator.draft!]) expectAllFree(each);
  });

  it("stand where the draft is right, and a step yields them all", async () => {
    const { runtime, draft, ask } = setUpDraft({ context: 512 }, 1000);
    const { ids, speculation } = await ask({ ids: promptOf(10), options: { maxTokens: 41, speculate: 4 } });
    expect(ids).toEqual(expectedIds(runtime, promptOf(10), 41));
    // The prompt's step says the first token, eight steps five each: four that were guessed and one of their own.
    expect(runtime.steps).toHaveLength(1 + 8);
    expect(speculation).toEqual({ proposed: 32, accepted: 32 });
    expect(draft.steps).toHaveLength(4 * 8);
  });

  it("come four at a time where nobody says how many, and not at all where none are wanted", async () => {
    const { draft, ask } = setUpDraft({ context: 512 }, 1000);
    expect((await ask({ ids: promptOf(10), options: { maxTokens: 11 } })).speculation).toEqual({ proposed: 8, accepted: 8 });
    const steps = draft.steps.length;
    expect((await ask({ ids: promptOf(10), options: { maxTokens: 11, speculate: 0 } })).speculation).toBeUndefined();
    expect(draft.steps).toHaveLength(steps);
  });

  it("are counted as they stand", async () => {
    const { ask } = setUpDraft({ context: 512 }, 3);
    const { speculation } = await ask({ ids: promptOf(10), options: { maxTokens: 60, speculate: 4 } });
    expect(speculation!.accepted).toBeGreaterThan(0);
    expect(speculation!.accepted).toBeLessThan(speculation!.proposed);
  });

  it("never go beyond what was asked for, nor beyond the context", async () => {
    const { runtime, ask } = setUpDraft({ context: 128 }, 1000);
    for (const maxTokens of [1, 2, 3, 4, 5, 6, 7])
      expect((await ask({ ids: promptOf(10), options: { maxTokens, speculate: 4 } })).ids).toHaveLength(maxTokens);
    const toTheEnd = await ask({ ids: promptOf(100), options: { speculate: 16 } });
    expect(toTheEnd.ids).toEqual(expectedIds(runtime, promptOf(100), 28));
  });

  it("end with the answer: at an end id, at a stop string, in the middle of a guess", async () => {
    const { runtime, scheduler, context, ask } = setUpDraft({ context: 512 }, 1000);
    const whole = expectedIds(runtime, promptOf(10), 40);
    for (const at of [0, 1, 2, 3, 7, 12]) {
      const stopId = whole[at]!;
      const { ids, finishReason } = await ask({ ids: promptOf(10), options: { speculate: 4, stopIds: [stopId] } });
      expect(ids).toEqual(whole.slice(0, whole.indexOf(stopId)));
      expect(finishReason).toBe("stop");
    }
    const { text } = await ask({ ids: promptOf(10), options: { maxTokens: 40, speculate: 0 } });
    for (const at of [3, 8, 15]) {
      const stop = text.slice(at, at + 3);
      const stopped = await ask({ ids: promptOf(10), options: { maxTokens: 40, speculate: 4, stop } });
      expect(stopped).toMatchObject({ text: text.slice(0, text.indexOf(stop)), finishReason: "stop" });
    }
    for (const each of [scheduler, context.speculator.draft!]) expectAllFree(each);
  });

  it("leave log-probabilities of the answer and of the prompt as they are", async () => {
    const { ask } = setUpDraft({ context: 512, prefillChunk: 7 }, 4);
    const options = { maxTokens: 30, logprobs: 2, promptLogprobs: 1 };
    const plain = await ask({ ids: promptOf(40), options: { ...options, speculate: 0 } });
    const guessed = await ask({ ids: promptOf(40), options: { ...options, speculate: 5 } });
    expect(guessed.tokens).toEqual(plain.tokens);
    expect(guessed.promptLogprobs).toEqual(plain.promptLogprobs);
  });

  it("go on in the next turn from what the draft has read", async () => {
    const { draft, ask } = setUpDraft({ context: 1024, prefillChunk: 600 }, 1000);
    const first = await ask({ ids: promptOf(500), options: { maxTokens: 20, speculate: 4 } });
    draft.steps.length = 0;
    await ask({ ids: [...promptOf(500), ...first.ids, 3, 4], options: { maxTokens: 6, speculate: 4 } });
    expect(draft.steps[0]!.tokens).toBeLessThan(30);
  });

  it("are not waited for while the draft reads a long text", async () => {
    const { runtime, draft, ask } = setUpDraft({ context: 1024 }, 1000);
    let open = (): void => {};
    const gate = new Promise<void>((resolve) => {
      open = resolve;
    });
    draft.beforeStep = () => gate;
    runtime.beforeStep = ([entry]) => {
      if (entry!.start > 720) open();
    };
    const { ids, speculation } = await ask({ ids: promptOf(700), options: { maxTokens: 100, speculate: 4 } });
    expect(ids).toEqual(expectedIds(runtime, promptOf(700), 100));
    expect(speculation!.proposed).toBeGreaterThan(0);
    expect(speculation!.proposed).toBeLessThanOrEqual(80);
  });

  it("are fewer for each the more ask, and none for a crowd", async () => {
    const model = { context: 256, maxSequences: 40, cacheTokens: 40 * 256, prefillChunk: 256 };
    const { runtime, ask } = setUpDraft(model, 1000);
    const largest = async (answers: number) => {
      runtime.steps.length = 0;
      const options = { maxTokens: 12, speculate: 8 };
      await Promise.all(Array.from({ length: answers }, (_, i) => ask({ ids: promptOf(4, i + 1), options })));
      const rows = runtime.steps.slice(1).map(({ tokens, entries }) => tokens / entries);
      return Math.max(...rows);
    };
    expect(await largest(1)).toBe(9);
    expect(await largest(8)).toBe(5);
    expect(await largest(33)).toBe(1);
  });

  it("do without where the draft has no room, or fails", async () => {
    const model = { context: 512, maxSequences: 2, prefillChunk: 1200 };
    const crowded = setUp({ ...model, cacheTokens: 1024, draft: draftOf({ ...model, cacheTokens: 512 }, 1000) });
    const prompts = [promptOf(300), promptOf(300, 2)];
    const answers = await Promise.all(prompts.map((ids) => crowded.ask({ ids, options: { maxTokens: 20, speculate: 4 } })));
    for (const [i, { ids }] of answers.entries()) expect(ids).toEqual(expectedIds(crowded.runtime, prompts[i]!, 20));
    const [first, second] = answers.map(({ speculation }) => speculation!.proposed);
    expect(second).toBeLessThan(first!);

    const failing = setUpDraft(model, 1000);
    failing.draft.beforeStep = () => {
      if (failing.draft.steps.length === 6) throw new Error("the draft has failed");
    };
    const { ids } = await failing.ask({ ids: promptOf(30), options: { maxTokens: 30, speculate: 4 } });
    expect(ids).toEqual(expectedIds(failing.runtime, promptOf(30), 30));
  });

  it("are made without a draft's rows for ids that it does not have, or that the model has not", async () => {
    const fewer = setUp({ context: 512, draft: new FakeRuntime({ context: 512, vocabSize: 30 }) });
    const more = setUp({ context: 512, draft: new FakeRuntime({ context: 512, vocabSize: 64 }) });
    for (const { runtime, ask } of [fewer, more]) {
      const { ids } = await ask({ ids: promptOf(30), options: { maxTokens: 30, speculate: 4 } });
      expect(ids).toEqual(expectedIds(runtime, promptOf(30), 30));
    }
  });

  it("are cancelled with their answer", async () => {
    const { scheduler, context, ask, runtime } = setUpDraft({ context: 512 }, 1000);
    const controller = new AbortController();
    runtime.beforeStep = () => {
      if (runtime.steps.length === 3) controller.abort(new Error("enough"));
    };
    await expect(ask({ ids: promptOf(10), options: { speculate: 4 } }, controller.signal)).rejects.toThrow("enough");
    await context.speculator.draft!.settled();
    for (const each of [scheduler, context.speculator.draft!]) expectAllFree(each);
  });
});

describe("guesses from the text", () => {
  it.each(models)("change no answer: %s", async (_, model) => {
    const { runtime, scheduler, ask } = setUp({ ...model, cacheTokens: 4096 });
    for (const length of [5, 300]) {
      const prompt = promptOf(length);
      const drawn = await ask({ ids: prompt, options: { maxTokens: 60, speculate: { tokens: 5, ngram: 1 }, ...sampled } });
      expect(drawn.ids).toEqual(expectedIds(runtime, prompt, 60, sampling));
    }
    repeat(runtime);
    const { ids, speculation } = await ask({ ids: promptOf(30), options: { maxTokens: 200, speculate: 6 } });
    expect(ids).toEqual(expectedIds(runtime, promptOf(30), 200));
    expect(speculation!.accepted).toBeGreaterThan(100);
    expectAllFree(scheduler);
  });

  it("need no draft, take fewer steps where the text repeats itself, and are made although a draft is there", async () => {
    const { runtime, draft, ask } = setUpDraft({ context: 512 });
    repeat(runtime);
    const { ids } = await ask({ ids: promptOf(10), options: { maxTokens: 140, speculate: { tokens: 6, ngram: 3 } } });
    expect(ids).toEqual(expectedIds(runtime, promptOf(10), 140));
    expect(runtime.steps.length).toBeLessThan(60);
    expect(draft.steps).toHaveLength(0);
  });

  it("stand aside for a constraint, which says what it allows one token ahead", async () => {
    const { runtime, context } = setUp({ context: 512 });
    repeat(runtime);
    const constraint = { ready: true, onReady: () => {}, complete: false, mask: () => null, accept: () => {} };
    const request = { ids: promptOf(10), options: { maxTokens: 60, speculate: 4 } };
    const { ids, speculation } = await readToEnd(generate(context, request, undefined, { constraint }), () => {});
    expect(ids).toEqual(expectedIds(runtime, promptOf(10), 60));
    expect(speculation).toBeUndefined();
  });
});

describe("answers with guesses beside others", () => {
  it.each([
    ["wait", 4096],
    ["preempt", 1024],
  ] as const)("are what they would be alone (%s)", async (onPressure, cacheTokens) => {
    const model = { context: 700, maxSequences: 5, cacheTokens, prefillChunk: 48, windows: [null, 300] };
    const { runtime, scheduler, context, ask } = setUpDraft(model, 4, { onPressure });
    const jobs = Array.from({ length: 12 }, (_, i) => {
      const ids = promptOf(20 + ((i * 97) % 400), i + 1);
      const options = { maxTokens: 30 + i, ...(i % 2 ? sampled : {}), speculate: [0, 4, { tokens: 3, ngram: 1 }][i % 3]! };
      return { ids, options };
    });
    const answers = await Promise.all(jobs.map((job) => ask(job)));
    for (const [i, { ids }] of answers.entries()) {
      const { ids: prompt, options } = jobs[i]!;
      expect(ids).toEqual(expectedIds(runtime, prompt, options.maxTokens, i % 2 ? sampling : {}));
    }
    for (const each of [scheduler, context.speculator.draft!]) expectAllFree(each);
  });
});
