import { describe, expect, it } from "vitest";
import { expectedIds, promptOf } from "../../test/support/fake-answers.js";
import { expectAllFree, setUp } from "../../test/support/fake-generation.js";
import { NoTokenAllowedError } from "../sampling/errors.js";
import { SchedulerClosedError } from "./errors.js";
import { generate, readToEnd } from "./generate.js";

const everyId = Array.from({ length: 40 }, (_, id) => id);

describe("Scheduler", () => {
  it("runs as many sequences in one step as the plan allows, in the order in which they came", async () => {
    const { runtime, ask, scheduler } = setUp({ maxSequences: 2, cacheTokens: 2048 });
    const finished: number[] = [];
    const answers = [1, 2, 3, 4].map(async (seed) => {
      const { ids } = await ask({ ids: promptOf(20, seed), options: { maxTokens: 10 } });
      finished.push(seed);
      expect(ids).toEqual(expectedIds(runtime, promptOf(20, seed), 10));
    });
    expect(scheduler.load).toMatchObject({ waiting: 4, running: 0 });
    await Promise.all(answers);
    expect(finished).toEqual([1, 2, 3, 4]);
    expect(Math.max(...runtime.steps.map(({ entries }) => entries))).toBe(2);
    expectAllFree(scheduler);
  });

  it("keeps decoding while a long prompt is read", async () => {
    const { runtime, ask } = setUp({ maxSequences: 2, cacheTokens: 2048, prefillChunk: 32 });
    const short = ask({ ids: promptOf(4), options: { maxTokens: 12 } });
    const long = ask({ ids: promptOf(300, 2), options: { maxTokens: 2 } });
    await Promise.all([short, long]);
    expect(runtime.steps[1]).toEqual({ entries: 2, tokens: 32 });
    expect(runtime.steps.slice(1, 9).every(({ entries }) => entries === 2)).toBe(true);
  });

  it("takes turns among more sequences than a step takes well", async () => {
    const { runtime, ask, scheduler } = setUp({ maxSequences: 5, cacheTokens: 2048, atOnce: 3 });
    const seeds = [1, 2, 3, 4, 5];
    const answers = await Promise.all(seeds.map((seed) => ask({ ids: promptOf(2, seed), options: { maxTokens: 40 } })));
    for (const [i, { ids }] of answers.entries()) expect(ids).toEqual(expectedIds(runtime, promptOf(2, seeds[i]!), 40));
    const [prompts, ...steps] = runtime.steps.map(({ entries }) => entries);
    expect(prompts).toBe(5);
    expect(steps.filter((entries) => entries === 3).length).toBeGreaterThan(steps.length / 2);
    expect(Math.max(...steps)).toBe(3);
    expectAllFree(scheduler);
  });

  it("lets a request wait until its pages are free, though there is a place", async () => {
    const { runtime, ask, scheduler } = setUp({ maxSequences: 4, context: 1024, cacheTokens: 1024 });
    await Promise.all([
      ask({ ids: promptOf(500), options: { maxTokens: 200 } }),
      ask({ ids: promptOf(300, 2), options: { maxTokens: 50 } }),
      ask({ ids: promptOf(10, 3), options: { maxTokens: 5 } }),
    ]);
    expect(Math.max(...runtime.steps.map(({ entries }) => entries))).toBe(2); // 3 + 2 pages of 4 do not fit
    expectAllFree(scheduler);
  });

  it("fails only the request that a step fails for", async () => {
    const { runtime, ask, scheduler } = setUp({ maxSequences: 3, cacheTokens: 2048 });
    const answers = await Promise.allSettled([
      ask({ ids: promptOf(30), options: { maxTokens: 8 } }),
      ask({ ids: promptOf(30, 2), options: { maxTokens: 8, bannedIds: everyId } }),
      ask({ ids: promptOf(30, 3), options: { maxTokens: 8, temperature: 1, seed: 3 } }),
    ]);
    expect(answers.map(({ status }) => status)).toEqual(["fulfilled", "rejected", "fulfilled"]);
    expect((answers[1] as PromiseRejectedResult).reason).toBeInstanceOf(NoTokenAllowedError);
    expect(answers[0].status === "fulfilled" && answers[0].value.ids).toEqual(expectedIds(runtime, promptOf(30), 8));
    expectAllFree(scheduler);
  });

  it("ends every request when the backend dies, and holds nothing afterwards", async () => {
    const { runtime, ask, scheduler } = setUp({ maxSequences: 2, cacheTokens: 2048 });
    const death = new Error("the device is gone");
    runtime.beforeStep = () => {
      if (runtime.steps.length >= 3) throw death;
    };
    const answers = await Promise.allSettled([1, 2, 3].map((seed) => ask({ ids: promptOf(30, seed) })));
    expect(answers).toEqual([1, 2, 3].map(() => ({ status: "rejected", reason: death })));
    expectAllFree(scheduler);
  });

  it("does not reuse the KV of a request that failed", async () => {
    const { runtime, ask, scheduler } = setUp();
    runtime.beforeStep = () => {
      if (runtime.steps.length === 2) throw new Error("once");
    };
    await expect(ask({ ids: promptOf(200) })).rejects.toThrow("once");
    runtime.beforeStep = () => {};
    const { timings, ids } = await ask({ ids: promptOf(200), options: { maxTokens: 3 } });
    expect(timings.reusedTokens).toBe(0);
    expect(ids).toEqual(expectedIds(runtime, promptOf(200), 3));
    expectAllFree(scheduler);
  });

  it("keeps the KV of an answer that was stopped by its reader", async () => {
    const { context, ask } = setUp();
    for await (const _ of generate(context, { ids: promptOf(100) })) break;
    expect((await ask({ ids: promptOf(100), options: { maxTokens: 2 } })).timings.reusedTokens).toBe(99);
  });

  it("gives a cancelled request's room to the next, though its reader was not reading", async () => {
    const { context, ask, scheduler } = setUp();
    const unread = generate(context, { ids: promptOf(10) });
    await new Promise((resolve) => setTimeout(resolve, 30)); // paused by now
    const next = ask({ ids: promptOf(10, 2), options: { maxTokens: 3 } });
    await new Promise((resolve) => setTimeout(resolve, 10)); // waiting by now, nothing runs
    await unread.return();
    expect((await next).ids.length).toBe(3);
    expectAllFree(scheduler);
  });

  it("frees a cancelled request's pages after the step that writes into them, not during it", async () => {
    const { runtime, context, scheduler } = setUp();
    let endStep = (): void => {};
    const stepping = new Promise<void>((begun) => {
      runtime.beforeStep = () => {
        begun();
        return new Promise<void>((resolve) => {
          endStep = resolve;
        });
      };
    });
    const stream = generate(context, { ids: promptOf(10) });
    await stepping;
    const left = stream.return();
    expect(scheduler.load.reservedPages).toEqual([2]);
    endStep();
    await left;
    expectAllFree(scheduler);
  });

  it("ends what runs and what waits when it is closed, and takes nothing more", async () => {
    const { context, ask, scheduler, runtime } = setUp();
    const running = ask({ ids: promptOf(10) });
    const waiting = ask({ ids: promptOf(10, 2) });
    const settled = Promise.allSettled([running, waiting]);
    await new Promise<void>((resolve) => {
      runtime.beforeStep = () => resolve();
    });
    await scheduler.close();
    const reasons = (await settled).map((answer) => (answer as PromiseRejectedResult).reason);
    expect(reasons.every((reason) => reason instanceof SchedulerClosedError)).toBe(true);
    expectAllFree(scheduler);
    expect(() => generate(context, { ids: [1] })).toThrow(SchedulerClosedError);
    await scheduler.close();
  });

  it("serves a reader who asks for many pieces at once in order", async () => {
    const { runtime, context } = setUp();
    const stream = generate(context, { ids: [1], options: { maxTokens: 3 } });
    const steps = await Promise.all([stream.next(), stream.next(), stream.next(), stream.next(), stream.next()]);
    const ids = steps.flatMap((step) => (step.done ? [] : step.value.ids));
    expect(ids).toEqual(expectedIds(runtime, [1], 3));
    expect((await readToEnd(stream, () => {})).ids).toEqual(ids);
  });
});
