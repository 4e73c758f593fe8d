// Rewinding, editing, branching: a text is sent anew as it is now, and only what follows the
// first change is computed, in the middle of a page too.

import { describe, expect, it } from "vitest";
import { expectedIds, promptOf } from "../../test/support/fake-answers.js";
import { expectAllFree, setUp } from "../../test/support/fake-generation.js";
import type { FakeModel } from "../../test/support/fake-runtime.js";
import type { GenerationOptions } from "./request.js";

const text = promptOf(700);
const model: FakeModel = { context: 1024, cacheTokens: 4096, maxSequences: 6, prefillChunk: 128 };

/** A text of which the KV is there, and how many tokens of another are computed then. */
async function workAfter(first: readonly number[], then: readonly number[], options: GenerationOptions = {}) {
  const { runtime, scheduler, ask } = setUp(model);
  await ask({ ids: first, options: { maxTokens: 10, ...options } });
  const before = runtime.steps.reduce((sum, { tokens }) => sum + tokens, 0);
  const { ids } = await ask({ ids: then, options: { maxTokens: 10 } });
  expect(ids).toEqual(expectedIds(runtime, then, 10));
  expectAllFree(scheduler);
  // Nine of the ten tokens of the answer are fed.
  return runtime.steps.reduce((sum, { tokens }) => sum + tokens, 0) - before - 9;
}

const replaced = (at: number, id: number) => text.map((each, i) => (i === at ? id : each));

describe("a text that is sent anew", () => {
  it.each<[string, readonly number[], number]>([
    ["rewound into the middle of a page", text.slice(0, 400), 1],
    ["rewound to the beginning of a page", text.slice(0, 512), 1],
    ["rewound to a few words", text.slice(0, 40), 1],
    ["as it was, for another answer", text, 1],
    ["with its last token replaced", replaced(699, 39), 1],
    ["with a token replaced in the middle", replaced(500, 39), 200],
    ["with words inserted", [...text.slice(0, 600), 38, 39, ...text.slice(600)], 102],
    ["with words taken out", [...text.slice(0, 300), ...text.slice(310)], 390],
    ["branching off in its first page", [...text.slice(0, 100), ...promptOf(50, 3)], 50],
    ["with more behind it", [...text, ...expectedTail(), 5, 6, 7], 4],
    ["without its beginning, where nothing is as it was", text.slice(300), 400],
  ])("%s has only what follows the change computed", async (_, changed, computed) => {
    expect(await workAfter(text, changed)).toBe(computed);
  });

  it.each<[string, GenerationOptions]>([
    ["beams", { beams: { count: 3, length: 4 } }],
    ["guidance", { guidance: { scale: 1.5, negative: promptOf(60, 9) } }],
    ["guesses", { speculate: { tokens: 4, ngram: 1 } }],
  ])("goes on from an answer with %s as from any other", async (_, options) => {
    const { ask, runtime } = setUp(model);
    const answer = await ask({ ids: text, options: { maxTokens: 20, ...options } });
    const next = [...text, ...answer.ids, 8, 9];
    const again = await ask({ ids: next, options: { maxTokens: 5 } });
    expect(again.timings.reusedTokens).toBe(text.length + 19);
    expect(again.ids).toEqual(expectedIds(runtime, next, 5));
  });

  it("keeps every branch, and branches of running texts", async () => {
    const { runtime, scheduler, ask } = setUp(model);
    const branches = [0, 1, 2, 3].map((seed) => [...text.slice(0, 520), ...promptOf(60, seed + 20)]);
    await ask({ ids: branches[0]!, options: { maxTokens: 4 } });
    const [first, ...others] = await Promise.all(branches.map((ids) => ask({ ids, options: { maxTokens: 30 } })));
    expect(first!.timings.reusedTokens).toBe(579);
    for (const [i, { ids, timings }] of others.entries()) {
      expect(timings.reusedTokens).toBe(512); // the page beyond is being written by the first
      expect(ids).toEqual(expectedIds(runtime, branches[i + 1]!, 30));
    }
    const fifth = await ask({ ids: [...text.slice(0, 520), ...promptOf(60, 30)], options: { maxTokens: 2 } });
    expect(fifth.timings.reusedTokens).toBe(520);
    for (const ids of branches) expect((await ask({ ids, options: { maxTokens: 2 } })).timings.reusedTokens).toBe(579);
    expectAllFree(scheduler);
  });
});

/** What the model says behind the text: nine of ten tokens are in the cache. */
function expectedTail(): number[] {
  return expectedIds(setUp(model).runtime, text, 10);
}
