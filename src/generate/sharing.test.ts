// What running requests have in common is computed once.

import { describe, expect, it } from "vitest";
import { expectedIds, promptOf } from "../../test/support/fake-answers.js";
import { expectAllFree, setUp } from "../../test/support/fake-generation.js";
import { WanderingJob } from "../../test/support/wandering-job.js";
import { GREEDY } from "../sampling/parameters.js";
import { generate } from "./generate.js";

const roomy = { context: 1024, cacheTokens: 8192, maxSequences: 8, prefillChunk: 300 };
const prompt = promptOf(700);

describe("requests that run together", () => {
  it.each([[[null]], [[null, 300]], [[400]]])("compute one prompt once, windows %j", async (windows) => {
    const { runtime, scheduler, ask } = setUp({ ...roomy, windows });
    const answers = await Promise.all(
      [1, 2, 3, 4].map((seed) => ask({ ids: prompt, options: { maxTokens: 20, temperature: 1, seed } })),
    );
    expect(answers.map(({ timings }) => timings.reusedTokens)).toEqual([0, 699, 699, 699]);
    expect(scheduler.counters).toMatchObject({ promptTokens: 700 + 3, reusedTokens: 3 * 699 });
    expect(new Set(answers.map(({ ids }) => ids.join())).size).toBe(4);
    const alone = setUp({ ...roomy, windows, maxSequences: 1 });
    for (const [i, { ids }] of answers.entries())
      expect((await alone.ask({ ids: prompt, options: { maxTokens: 20, temperature: 1, seed: i + 1 } })).ids).toEqual(ids);
    expect(runtime.steps.length).toBeLessThan(40);
    expectAllFree(scheduler);
  });

  it("compute a short prompt once, too, and each goes on in a copy of its page", async () => {
    const { runtime, scheduler, ask } = setUp(roomy);
    let copies = 0;
    const copyPages = runtime.copyPages.bind(runtime);
    runtime.copyPages = (all) => {
      copies += all.length;
      return copyPages(all);
    };
    const short = promptOf(100);
    const run = (seed: number) => ask({ ids: short, options: { maxTokens: 30, temperature: 1, seed } });
    const answers = await Promise.all([1, 2, 3, 4].map(run));
    const sampling = (seed: number) => ({ parameters: { ...GREEDY, temperature: 1 }, seed });
    for (const [i, { ids }] of answers.entries()) expect(ids).toEqual(expectedIds(runtime, short, 30, sampling(i + 1)));
    expect(scheduler.counters).toMatchObject({ promptTokens: 100 + 3, reusedTokens: 3 * 99 });
    expect(copies).toBe(3);
    expectAllFree(scheduler);
  });

  it("take the prompt of one that is far on in its answer", async () => {
    const { runtime, context, ask } = setUp(roomy);
    const stream = generate(context, { ids: promptOf(100), options: { maxTokens: 400, temperature: 1, seed: 3 } });
    for (let said = 0; said < 300; ) said += (await stream.next()).value?.ids.length ?? 0;
    const { ids, timings } = await ask({ ids: promptOf(100), options: { maxTokens: 10 } });
    expect(timings.reusedTokens).toBe(99);
    expect(ids).toEqual(expectedIds(runtime, promptOf(100), 10));
    await stream.return();
  });

  it("go on from pages of one that still answers", async () => {
    const { runtime, scheduler, context, ask } = setUp(roomy);
    const stream = generate(context, { ids: prompt, options: { maxTokens: 200 } });
    await stream.next();
    const other = [...prompt.slice(0, 600), ...promptOf(100, 9)];
    const { ids, timings } = await ask({ ids: other, options: { maxTokens: 10 } });
    expect(timings.reusedTokens).toBe(512);
    expect(ids).toEqual(expectedIds(runtime, other, 10));
    await stream.return();
    expectAllFree(scheduler);
  });

  it("do not wait for one that is cancelled while it computes what they share", async () => {
    const { runtime, scheduler, context, ask } = setUp({ ...roomy, prefillChunk: 100 });
    const first = generate(context, { ids: prompt });
    const second = ask({ ids: prompt, options: { maxTokens: 10 } });
    runtime.beforeStep = () => {
      if (runtime.steps.length === 3) void first.return();
    };
    const { ids, timings } = await second;
    expect(ids).toEqual(expectedIds(runtime, prompt, 10));
    expect(timings.reusedTokens).toBeLessThan(512);
    expectAllFree(scheduler);
  });

  it("share nothing where their KV depends on something else", async () => {
    const { runtime, scheduler } = setUp(roomy);
    const jobs = ["", "a", "b"].map((condition, seed) => {
      const job = new WanderingJob(runtime, { seed, prompts: [prompt], width: 1, rounds: 3, stride: 1 });
      return Object.assign(job, { condition });
    });
    await Promise.all(jobs.map((job) => scheduler.submit(job).done));
    expect(scheduler.counters).toMatchObject({ promptTokens: 3 * 700, reusedTokens: 0 });
    expect(jobs.map(({ problem }) => problem)).toEqual([null, null, null]);
    expectAllFree(scheduler);
  });
});

describe("fairness", () => {
  it("a short prompt behind long ones has its answer long before them, and they are not held up for long", async () => {
    const { runtime, ask } = setUp({ ...roomy, prefillChunk: 64, cacheTokens: 16384 });
    const finished: [string, number][] = [];
    const run = async (name: string, ids: readonly number[]) => {
      await ask({ ids, options: { maxTokens: 4 } });
      finished.push([name, runtime.steps.length]);
    };
    await Promise.all([
      run("long", promptOf(900, 1)),
      run("later", promptOf(900, 2)),
      run("short", promptOf(60, 3)),
      run("shorter", promptOf(20, 4)),
    ]);
    expect(finished.map(([name]) => name)).toEqual(["shorter", "short", "long", "later"]);
    const at = Object.fromEntries(finished);
    expect(at.short).toBeLessThan(10);
    expect(at.long).toBeLessThan((2 * 900) / 64 + 8);
    expect(at.later).toBeLessThan((900 + 900 + 80) / 64 + 16);
  });

  it("a request that needs much is overtaken by few, however many there are", async () => {
    const { scheduler, ask } = setUp({ context: 1024, cacheTokens: 1024, maxSequences: 3, prefillChunk: 64 });
    const finished: string[] = [];
    const run = (name: string, length: number, maxTokens: number, seed: number) =>
      ask({ ids: promptOf(length, seed), options: { maxTokens } }).then(() => finished.push(name));
    const all = [run("first", 600, 60, 1), run("big", 900, 100, 2)];
    for (let i = 0; i < 60; i++) all.push(run("small", 5, 6, 3 + i));
    await Promise.all(all);
    expect(finished.indexOf("big")).toBeLessThanOrEqual(1 + 16 + 1);
    expect(finished.indexOf("small")).toBe(0); // there was room beside the first
    expectAllFree(scheduler);
  });
});
