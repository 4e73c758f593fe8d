import { describe, expect, it } from "vitest";
import { expectedIds, promptOf } from "../../test/support/fake-answers.js";
import { expectAllFree, setUp } from "../../test/support/fake-generation.js";
import { WanderingJob } from "../../test/support/wandering-job.js";
import { TooManySequencesError } from "./errors.js";
import type { StrandAnswer } from "./job.js";

const one = { seed: 1, prompts: [promptOf(100)], width: 1, rounds: 3, stride: 1 };

describe("a job of several strands", () => {
  it.each([
    ["feeds two prompts of unlike length and the same answer", { ...one, prompts: [promptOf(300), promptOf(20, 2)], width: 2 }],
    ["parts and drops strands", { ...one, width: 4, rounds: 30 }],
    ["parts in the middle of a page, far from its prompt", { ...one, width: 3, rounds: 60, stride: 12 }],
    ["appends several ids at once and takes them back", { ...one, rounds: 30, stride: 6 }],
  ])("%s, and every strand is told what it would be alone", async (_, wandering) => {
    const { runtime, scheduler, ask } = setUp({ context: 1024, cacheTokens: 8192, maxSequences: 6, prefillChunk: 40 });
    const job = new WanderingJob(runtime, wandering);
    const [answer] = await Promise.all([ask({ ids: promptOf(100), options: { maxTokens: 20 } }), scheduler.submit(job).done]);
    expect(job.problem).toBe(null);
    expect(job.checked).toBeGreaterThan(wandering.rounds);
    expect(answer.ids).toEqual(expectedIds(runtime, promptOf(100), 20));
    expectAllFree(scheduler);
  });

  it("shares whole pages and copies one page for each strand that goes on", async () => {
    const { runtime, scheduler } = setUp({ context: 1024, cacheTokens: 4096, maxSequences: 4, prefillChunk: 256 });
    const copied: number[] = [];
    const copyPages = runtime.copyPages.bind(runtime);
    runtime.copyPages = (copies) => {
      copied.push(copies.length);
      return copyPages(copies);
    };
    const job = new WanderingJob(runtime, { ...one, prompts: [promptOf(600)], width: 4, rounds: 1 });
    job.accept = ([{ strand }]: readonly StrandAnswer[] = []) => {
      if (!strand || strand.fed < 600 || strand.ids.length > 600) return;
      const strands = [strand, strand.fork(), strand.fork(), strand.fork()];
      for (const [id, each] of strands.entries()) each.append(id);
      expect(scheduler.load.freePages).toEqual([16 - 3]);
    };
    await scheduler.submit(job).done;
    expect(copied).toEqual([3]); // the last one writes where they all were
    expectAllFree(scheduler);
  });

  it("takes as many of the plan's places as it has strands", async () => {
    const { runtime, scheduler, ask } = setUp({ context: 512, cacheTokens: 4096, maxSequences: 3 });
    const job = new WanderingJob(runtime, { ...one, width: 2, rounds: 20 });
    await Promise.all([
      scheduler.submit(job).done,
      ...[2, 3, 4].map((seed) => ask({ ids: promptOf(10, seed), options: { maxTokens: 4 } })),
    ]);
    expect(Math.max(...runtime.steps.map(({ entries }) => entries))).toBeLessThanOrEqual(3);
    expect(job.problem).toBe(null);
    expectAllFree(scheduler);
  });

  it("is refused when the plan has not the places or the pages", () => {
    const { runtime, scheduler } = setUp({ context: 512, cacheTokens: 768, maxSequences: 3 });
    const submit = (width: number, prompt: number) =>
      scheduler.submit(new WanderingJob(runtime, { ...one, width, prompts: [promptOf(prompt)], rounds: 1 }));
    expect(() => submit(4, 10)).toThrow(TooManySequencesError);
    expect(() => submit(3, 511)).toThrow(/512 positions.* in each of 3 sequences need 4 KV pages/); // 1 + 3 · 1
    expect(() => submit(3, 255)).not.toThrow();
  });

  it("ends with what its accept throws, and gives everything back", async () => {
    const { runtime, scheduler, ask } = setUp({ context: 512, cacheTokens: 4096, maxSequences: 4 });
    const job = new WanderingJob(runtime, { ...one, width: 3, rounds: 20 });
    const accept = job.accept.bind(job);
    let left = 8;
    job.accept = (answers) => {
      if (--left === 0) throw new Error("enough");
      accept(answers);
    };
    const other = ask({ ids: promptOf(30), options: { maxTokens: 20 } });
    await expect(scheduler.submit(job).done).rejects.toThrow("enough");
    expect((await other).ids).toEqual(expectedIds(runtime, promptOf(30), 20));
    expectAllFree(scheduler);
  });

  it("may be given more to feed between steps", async () => {
    const proposed: number[] = [];
    const { runtime, scheduler } = setUp({}, { propose: async () => void proposed.push(job.generated) });
    const job = new WanderingJob(runtime, { ...one, rounds: 5 });
    await scheduler.submit(job).done;
    expect(proposed.length).toBe(runtime.steps.length - 1); // nothing ran before the first step
    expect(job.problem).toBe(null);
  });
});
