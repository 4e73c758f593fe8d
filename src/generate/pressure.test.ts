import { describe, expect, it } from "vitest";
import { expectedIds, promptOf } from "../../test/support/fake-answers.js";
import { expectAllFree, setUp } from "../../test/support/fake-generation.js";
import { WanderingJob } from "../../test/support/wandering-job.js";
import { UsageError } from "../errors.js";
import { GREEDY } from "../sampling/parameters.js";
import { NoRoomError, QueueFullError } from "./errors.js";
import { generate } from "./generate.js";
import { checkPressureOptions } from "./scheduler-options.js";

/** 4 pages; each request ends with 2. */
const tight = { context: 512, cacheTokens: 1024, maxSequences: 4 };
const long = (seed: number) => ({ ids: promptOf(200, seed), options: { maxTokens: 300, temperature: 1, seed } });

const answersOf = (model: object, seeds: readonly number[]) => {
  const { ask } = setUp({ ...tight, ...model });
  return Promise.all(seeds.map(async (seed) => (await ask(long(seed))).ids));
};

describe("when pages are short", () => {
  it('"preempt" runs more at once, and every answer is what it would be alone', async () => {
    const { runtime, scheduler, ask } = setUp(tight, { onPressure: "preempt" });
    const answers = await Promise.all([1, 2, 3, 4].map((seed) => ask(long(seed))));
    for (const [i, { ids }] of answers.entries())
      expect(ids).toEqual(
        expectedIds(runtime, promptOf(200, i + 1), 300, { parameters: { ...GREEDY, temperature: 1 }, seed: i + 1 }),
      );
    expect(Math.max(...runtime.steps.map(({ entries }) => entries))).toBe(4); // two at a time with "wait"
    expect(scheduler.counters.preemptions).toBeGreaterThan(0);
    expect(scheduler.counters.generatedTokens).toBe(1200);
    expectAllFree(scheduler);
  });

  it("the youngest gives way, and goes on before any that have not begun", async () => {
    const { scheduler, ask } = setUp({ ...tight, maxSequences: 3 }, { onPressure: "preempt" });
    const finished: number[] = [];
    await Promise.all([1, 2, 3, 4].map((seed) => ask(long(seed)).then(() => finished.push(seed))));
    expect(finished).toEqual([1, 2, 3, 4]);
    expect(scheduler.counters.preemptions).toBeGreaterThan(0);
  });

  it("tells each log-probability once, however often its KV is computed", async () => {
    const { scheduler, ask } = setUp(tight, { onPressure: "preempt" });
    const answers = await Promise.all(
      [1, 2, 3, 4].map((seed) => ask({ ...long(seed), options: { ...long(seed).options, logprobs: 1, promptLogprobs: 1 } })),
    );
    expect(scheduler.counters.preemptions).toBeGreaterThan(0);
    const { ask: askAlone } = setUp(tight);
    for (const [i, answer] of answers.entries()) {
      const alone = await askAlone({ ...long(i + 1), options: { ...long(i + 1).options, logprobs: 1, promptLogprobs: 1 } });
      expect([answer.tokens, answer.promptLogprobs]).toEqual([alone.tokens, alone.promptLogprobs]);
    }
  });

  it("a preempted job whose strands share pages comes back, though its prompt would not fit twice", async () => {
    const { runtime, scheduler, ask } = setUp({ ...tight, context: 1024, cacheTokens: 1280 }, { onPressure: "preempt" });
    const answer = ask(long(3));
    const job = new WanderingJob(runtime, { seed: 1, prompts: [promptOf(800)], width: 2, rounds: 20, stride: 3 });
    await Promise.all([answer, scheduler.submit(job).done]);
    expect(job.problem).toBe(null);
    expect(scheduler.counters.preemptions).toBeGreaterThan(0);
    expectAllFree(scheduler);
  });

  it('"wait" never takes pages back', async () => {
    const { runtime, scheduler, ask } = setUp(tight);
    await Promise.all([1, 2, 3, 4].map((seed) => ask(long(seed))));
    expect(scheduler.counters.preemptions).toBe(0);
    expect(Math.max(...runtime.steps.map(({ entries }) => entries))).toBe(2);
    expectAllFree(scheduler);
  });

  it.each([[[null, 300]], [[200]], [[64, null, 513]]])("answers stay as they are with windows %j", async (windows) => {
    const model = { ...tight, context: 1024, cacheTokens: 1536, windows };
    const { scheduler, ask } = setUp(model, { onPressure: "preempt" });
    const answers = await Promise.all([1, 2, 3, 4].map((seed) => ask(long(seed))));
    expect(answers.map(({ ids }) => ids)).toEqual(await answersOf({ ...model, maxSequences: 1 }, [1, 2, 3, 4]));
    expectAllFree(scheduler);
  });

  it("a preempted answer beyond the original context of dynamic RoPE goes on as it would", async () => {
    const model = { ...tight, rope: { kind: "dynamic", theta: 1, factor: 4, originalContext: 230 } as const };
    const { scheduler, ask } = setUp(model, { onPressure: "preempt" });
    const answers = await Promise.all([1, 2, 3, 4].map((seed) => ask(long(seed))));
    expect(scheduler.counters.preemptions).toBeGreaterThan(0);
    expect(answers.map(({ ids }) => ids)).toEqual(await answersOf({ ...model, maxSequences: 1 }, [1, 2, 3, 4]));
    expectAllFree(scheduler);
  });

  it('"refuse" says at once what is missing, and takes the request when there is room', async () => {
    const { context, ask, scheduler } = setUp({ ...tight, maxSequences: 3 }, { onPressure: "refuse" });
    const running = [ask(long(1)), ask(long(2))];
    expect(() => generate(context, long(3))).toThrow(NoRoomError);
    expect(() => generate(context, long(3))).toThrow(/needs 2 KV pages, and 4 of 4/);
    await Promise.all(running);
    const short = [4, 5, 6].map((seed) => ask({ ids: promptOf(9, seed), options: { maxTokens: 3 } }));
    expect(() => generate(context, { ids: [1], options: { maxTokens: 1 } })).toThrow(/3 of 3 sequences/);
    await Promise.all(short);
    expect((await ask(long(3))).ids).toEqual((await answersOf({}, [3]))[0]);
    expectAllFree(scheduler);
  });
});

describe("a queue of limited length", () => {
  it("refuses one more than may wait, those that can begin not counted", async () => {
    const { context, ask, scheduler } = setUp({ maxSequences: 2, cacheTokens: 1024 }, { maxWaiting: 3 });
    const answers = [1, 2, 3, 4, 5].map((seed) => ask({ ids: promptOf(10, seed), options: { maxTokens: 5 } }));
    expect(() => generate(context, { ids: [1] })).toThrow(QueueFullError);
    expect(scheduler.load).toMatchObject({ running: 2, waiting: 3 });
    await Promise.all(answers);
    expect((await ask({ ids: [1], options: { maxTokens: 2 } })).ids.length).toBe(2);
    expectAllFree(scheduler);
  });

  it("may be of length 0", async () => {
    const { context, ask } = setUp({}, { maxWaiting: 0 });
    const answer = ask({ ids: [1], options: { maxTokens: 3 } });
    expect(() => generate(context, { ids: [1] })).toThrow(/0 requests are waiting/);
    expect((await answer).ids.length).toBe(3);
  });
});

describe("checkPressureOptions", () => {
  it.each([{}, { onPressure: "refuse" as const, maxWaiting: 0 }, { maxWaiting: 7 }])("takes %j", (options) => {
    expect(() => checkPressureOptions(options)).not.toThrow();
  });

  it.each([{ onPressure: "panic" }, { maxWaiting: -1 }, { maxWaiting: 1.5 }, { maxWaiting: "3" }])("refuses %j", (options) => {
    expect(() => checkPressureOptions(options as object)).toThrow(UsageError);
  });
});
