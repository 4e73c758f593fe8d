// Types of the KV cache through the library: what they take of the plan, and that answers repeat.

import { describe, expect, it } from "vitest";
import { loadModel, PlanRefusedError, plan } from "../../src/index.js";

const OPTIONS = { backend: "cpu", ctx: 1024, engine: "thread", threads: 1 } as const;
const PROMPT = { maxTokens: 12, temperature: 0, ignoreEos: true } as const;

describe("loadModel with a cache type", () => {
  it.each([
    ["q8", (64 + 2) / 128],
    ["q4", (32 + 4) / 128],
  ] as const)("%s takes its share of an f16 cache, and answers the same each time", async (cache, share) => {
    const f16 = await plan(undefined, { backend: "cpu", ctx: 1024 });
    await using model = await loadModel(undefined, { ...OPTIONS, cache });
    expect(model.plan.run.cacheType).toBe(cache);
    expect(model.plan.devices[0]!.kvCache).toBe(f16.devices[0]!.kvCache * share);
    const answer = async () => (await model.generate("Once upon a time", PROMPT).result).ids;
    const first = await answer();
    expect(first).toHaveLength(12);
    expect(await answer()).toEqual(first);
  });

  it("is refused where arithmetic is exact", async () => {
    await expect(loadModel(undefined, { ctx: 256, cpuExact: true, cache: "q8" })).rejects.toThrow(PlanRefusedError);
  });
});
