// A text edited in the middle, rewound and branched on the real model: only what follows the
// change is computed, and nothing differs by a bit from a model that computes everything.

import { describe, expect, it } from "vitest";
import { loadModel, type Model } from "../../src/index.js";
import { fixture } from "../support/fixtures.js";

const ids = Array.from({ length: 420 }, (_, i) => 3 + ((i * 131 + (i >> 4)) % 3900));
const edits: [string, number[], number][] = [
  ["rewound", ids.slice(0, 300), 299],
  ["edited in the middle", ids.map((id, i) => (i === 330 ? 77 : id)), 330],
  ["edited in its first page", ids.map((id, i) => (i === 100 ? 78 : id)), 100],
  ["branched", [...ids.slice(0, 350), 9, 8, 7], 350],
];

async function say(model: Model, prompt: readonly number[]) {
  const {
    ids: said,
    tokens,
    timings,
  } = await model.generate(prompt, { temperature: 0, maxTokens: 6, ignoreEos: true, logprobs: 2 }).result;
  return { said, logprobs: tokens!.map(({ logprob, top }) => [logprob, ...top.map((each) => each.logprob)]), timings };
}

describe("a text that is sent anew", () => {
  it("has only what follows the change computed, to the same bits", async () => {
    const load = () => loadModel(fixture("demo-gptq-4bit-g128"), { backend: "cpu", threads: 1, ctx: 512, cacheTokens: 4096 });
    await using model = await load();
    const fresh: Awaited<ReturnType<typeof say>>[] = [];
    {
      // Backwards, each behind a stranger: nothing of any use is left when it comes.
      await using other = await loadModel(fixture("demo-gptq-4bit-g128"), {
        backend: "cpu",
        threads: 1,
        ctx: 512,
        cacheTokens: 512,
      });
      for (const [, edited] of edits) {
        await say(
          other,
          ids.map((id) => 4000 - id),
        );
        fresh.push(await say(other, edited));
      }
    }
    for (const [i, [, edited, reused]] of edits.entries()) {
      await say(model, ids);
      const { said, logprobs, timings } = await say(model, edited);
      expect(timings.reusedTokens).toBe(reused);
      expect(fresh[i]!.timings.reusedTokens).toBe(0);
      expect(said).toEqual(fresh[i]!.said);
      expect(logprobs).toEqual(fresh[i]!.logprobs);
    }
  });
});
