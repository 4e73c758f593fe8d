// KV of one set of adapters is never another's: not where requests begin alike, run side by side,
// follow each other or leave early.

import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { expectedIds, promptOf } from "../../test/support/fake-answers.js";
import { expectAllFree, setUp } from "../../test/support/fake-generation.js";
import { type AdapterChoice, resolveAdapters } from "./adapters.js";
import { generate } from "./generate.js";

const adapters = ["a", "b"];
const sets: readonly (readonly AdapterChoice[])[] = [
  [],
  [{ name: "a" }],
  [{ name: "b", weight: 0.5 }],
  [{ name: "a" }, { name: "b", weight: 0.5 }],
];

describe("adapters and the cache", () => {
  it("a chat goes on from its own turns, and from no other's", async () => {
    const { runtime, scheduler, ask } = setUp({ context: 2048, cacheTokens: 8192, adapters });
    const prompt = promptOf(400);
    const uses = (set: readonly AdapterChoice[]) => resolveAdapters(set, runtime.spec.adapters);
    for (const round of [0, 1])
      for (const set of sets) {
        const { ids, timings } = await ask({ ids: prompt, options: { maxTokens: 10, adapters: set } });
        expect(ids).toEqual(expectedIds(runtime, prompt, 10, { adapters: uses(set) }));
        expect(timings.reusedTokens).toBe(round === 0 ? 0 : 399);
      }
    expectAllFree(scheduler);
  });

  it("answers stay what they are alone, over random conversations with random adapters", async () => {
    const anyModel = fc.record({
      maxSequences: fc.integer({ min: 1, max: 3 }),
      prefillChunk: fc.integer({ min: 1, max: 300 }),
      cacheTokens: fc.integer({ min: 4, max: 9 }).map((pages) => pages * 256),
      windows: fc.constantFrom([null], [null, 300]),
    });
    const anyTurn = fc.record({
      from: fc.nat(5),
      keep: fc.nat(700),
      fresh: fc.integer({ min: 1, max: 300 }),
      maxTokens: fc.integer({ min: 1, max: 20 }),
      set: fc.nat(sets.length - 1),
      leaveAfter: fc.option(fc.nat(10), { nil: null, freq: 3 }),
    });
    await fc.assert(
      fc.asyncProperty(anyModel, fc.array(anyTurn, { minLength: 2, maxLength: 8 }), async (model, turns) => {
        const { runtime, scheduler, context } = setUp({ context: 1024, adapters, ...model });
        const told: number[][] = [];
        for (let i = 0; i < turns.length; i += model.maxSequences)
          await Promise.all(
            turns.slice(i, i + model.maxSequences).map(async ({ from, keep, fresh, maxTokens, set, leaveAfter }, j) => {
              // One text for all, so that beginnings are alike as often as can be.
              const ids = [...(told[from] ?? []).slice(0, keep), ...promptOf(fresh)].slice(0, 900);
              const choices = sets[set]!;
              const said: number[] = [];
              for await (const event of generate(context, { ids, options: { maxTokens, adapters: choices } })) {
                said.push(...event.ids);
                if (leaveAfter !== null && said.length > leaveAfter) break;
              }
              const uses = resolveAdapters(choices, runtime.spec.adapters);
              expect(said).toEqual(expectedIds(runtime, ids, said.length, { adapters: uses }));
              told[i + j] = [...ids, ...said];
            }),
          );
        expectAllFree(scheduler);
      }),
      { numRuns: 40 },
    );
  });
});
