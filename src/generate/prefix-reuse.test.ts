import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { expectedIds, promptOf } from "../../test/support/fake-answers.js";
import { expectAllFree, setUp } from "../../test/support/fake-generation.js";
import { generate } from "./generate.js";

describe("prefix reuse", () => {
  it("keeps the KV of a chat's earlier turns, and changes nothing", async () => {
    const { runtime, scheduler, ask } = setUp({ context: 2048 });
    const first = promptOf(300);
    const answer = await ask({ ids: first, options: { maxTokens: 40 } });
    const second = [...first, ...answer.ids, ...promptOf(30, 5)];
    const again = await ask({ ids: second, options: { maxTokens: 20 } });
    expect(again.timings.reusedTokens).toBe(339); // the last token of an answer is never fed
    expect(again.ids).toEqual(expectedIds(runtime, second, 20));
    expectAllFree(scheduler);
  });

  it("recomputes at least the last token of the same prompt", async () => {
    const { runtime, ask } = setUp();
    const prompt = promptOf(10);
    await ask({ ids: prompt, options: { maxTokens: 5 } });
    const again = await ask({ ids: prompt, options: { maxTokens: 5 } });
    expect(again.timings.reusedTokens).toBe(9);
    expect(again.ids).toEqual(expectedIds(runtime, prompt, 5));
  });

  it("leaves a chat alone that shares a few words only, and goes on from them in a copy", async () => {
    const { runtime, ask, scheduler } = setUp({ context: 512, cacheTokens: 1024 });
    const system = promptOf(10);
    const one = [...system, ...promptOf(100, 2)];
    const other = [...system, ...promptOf(100, 3)];
    await ask({ ids: one, options: { maxTokens: 10 } });
    const first = await ask({ ids: other, options: { maxTokens: 10 } });
    expect(first.timings.reusedTokens).toBe(10);
    expect(first.ids).toEqual(expectedIds(runtime, other, 10));
    expect((await ask({ ids: one, options: { maxTokens: 10 } })).timings.reusedTokens).toBe(109);
    expect((await ask({ ids: other, options: { maxTokens: 10 } })).timings.reusedTokens).toBe(109);
    expect(scheduler.load.idle).toBe(2);
  });

  it("does not copy a page for a word or two", async () => {
    const { ask, scheduler } = setUp({ context: 512, cacheTokens: 1024 });
    await ask({ ids: [...promptOf(7), ...promptOf(100, 2)], options: { maxTokens: 10 } });
    expect((await ask({ ids: [...promptOf(7), ...promptOf(100, 3)] })).timings.reusedTokens).toBe(0);
    expectAllFree(scheduler);
  });

  it("writes into the very page where there is none for a copy", async () => {
    const { runtime, ask, scheduler } = setUp({ context: 256, cacheTokens: 256 });
    const other = [...promptOf(10), ...promptOf(100, 3)];
    await ask({ ids: [...promptOf(10), ...promptOf(200, 2)], options: { maxTokens: 10 } });
    const result = await ask({ ids: other, options: { maxTokens: 10 } });
    expect(result.timings.reusedTokens).toBe(10);
    expect(result.ids).toEqual(expectedIds(runtime, other, 10));
    expect(scheduler.load.idle).toBe(1);
  });

  it("keeps no more of an earlier sequence than the new one needs", async () => {
    const { runtime, ask, scheduler } = setUp({ context: 2048, maxSequences: 2, prefillChunk: 256 });
    await ask({ ids: promptOf(1900), options: { maxTokens: 10 } });
    const [short, long] = await Promise.all([
      ask({ ids: promptOf(300), options: { maxTokens: 60 } }),
      ask({ ids: promptOf(1400, 2), options: { maxTokens: 10 } }),
    ]);
    expect(short.timings.reusedTokens).toBe(299);
    expect(short.ids).toEqual(expectedIds(runtime, promptOf(300), 60));
    expect(long.ids).toEqual(expectedIds(runtime, promptOf(1400, 2), 10));
    expectAllFree(scheduler);
  });

  it("shares whole pages of a long system prompt between chats", async () => {
    const { runtime, ask, scheduler } = setUp({ context: 2048, cacheTokens: 4096 });
    const system = promptOf(600);
    const one = [...system, ...promptOf(700, 2)];
    const other = [...system, ...promptOf(701, 3)];
    await ask({ ids: one, options: { maxTokens: 10 } });
    const second = await ask({ ids: other, options: { maxTokens: 10 } });
    expect(second.timings.reusedTokens).toBe(600);
    expect(second.ids).toEqual(expectedIds(runtime, other, 10));
    expect(scheduler.load.freePages).toEqual([16 - 6 - 4]);
    const third = await ask({ ids: one, options: { maxTokens: 10 } });
    expect(third.timings.reusedTokens).toBe(1299);
    expect(third.ids).toEqual(expectedIds(runtime, one, 10));
    expectAllFree(scheduler);
  });

  it("does not reuse what a sliding window has dropped", async () => {
    const { runtime, ask, scheduler } = setUp({ context: 4096, windows: [300, null], prefillChunk: 128 });
    const prompt = promptOf(1500);
    const answer = await ask({ ids: prompt, options: { maxTokens: 20 } });
    const next = [...prompt, ...answer.ids, 3, 4, 5];
    const turn = await ask({ ids: next, options: { maxTokens: 5 } });
    expect(turn.timings.reusedTokens).toBe(1519);
    expect(turn.ids).toEqual(expectedIds(runtime, next, 5));
    const early = next.slice(0, 700);
    const back = await ask({ ids: early, options: { maxTokens: 5 } });
    expect(back.timings.reusedTokens).toBe(0);
    expect(back.ids).toEqual(expectedIds(runtime, early, 5));
    expectAllFree(scheduler);
  });

  it("with dynamic RoPE, reuses only what does not depend on the length", async () => {
    const rope = { kind: "dynamic", theta: 10000, factor: 4, originalContext: 100 } as const;
    const { runtime, ask, scheduler } = setUp({ context: 512, rope });
    const turns = [50, 90, 95, 120, 120, 90];
    const reused: number[] = [];
    for (const length of turns) {
      const result = await ask({ ids: promptOf(length), options: { maxTokens: 20 } });
      expect(result.ids).toEqual(expectedIds(runtime, promptOf(length), 20));
      reused.push(result.timings.reusedTokens);
    }
    expect(reused).toEqual([0, 50, 90, 0, 0, 89]);
    expectAllFree(scheduler);
  });

  it("gives the same answers with and without, over random conversations", async () => {
    const anyModel = fc.record({
      maxSequences: fc.integer({ min: 1, max: 3 }),
      prefillChunk: fc.integer({ min: 1, max: 300 }),
      cacheTokens: fc.integer({ min: 4, max: 9 }).map((pages) => pages * 256),
      windows: fc.constantFrom([null], [200], [null, 300], [64, null, 513]),
      rope: fc.constantFrom(
        { kind: "default", theta: 1 } as const,
        { kind: "dynamic", theta: 1, factor: 2, originalContext: 300 } as const,
      ),
    });
    // Each request begins with `keep` ids of an earlier one's whole conversation, or of nothing.
    const anyTurn = fc.record({
      from: fc.nat(5),
      keep: fc.nat(700),
      fresh: fc.integer({ min: 1, max: 200 }),
      maxTokens: fc.integer({ min: 1, max: 30 }),
      leaveAfter: fc.option(fc.nat(10), { nil: null, freq: 3 }),
    });
    await fc.assert(
      fc.asyncProperty(anyModel, fc.array(anyTurn, { minLength: 1, maxLength: 8 }), async (model, turns) => {
        const { runtime, scheduler, context } = setUp({ context: 1024, ...model });
        const told: number[][] = [];
        for (let i = 0; i < turns.length; i += model.maxSequences) {
          await Promise.all(
            turns.slice(i, i + model.maxSequences).map(async ({ from, keep, fresh, maxTokens, leaveAfter }, j) => {
              const ids = [...(told[from] ?? []).slice(0, keep), ...promptOf(fresh, i + j)].slice(0, 900);
              const stream = generate(context, { ids, options: { maxTokens } });
              const said: number[] = [];
              for await (const event of stream) {
                said.push(...event.ids);
                if (leaveAfter !== null && said.length > leaveAfter) break;
              }
              expect(said).toEqual(expectedIds(runtime, ids, said.length));
              told[i + j] = [...ids, ...said];
            }),
          );
        }
        expectAllFree(scheduler);
      }),
      { numRuns: 60 },
    );
  });
});
