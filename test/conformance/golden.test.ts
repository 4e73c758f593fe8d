// Logits and greedy tokens against Hugging Face transformers.

import { describe, expect, it } from "vitest";
import { meanDifference } from "../reference/compare.js";
import { referenceLogits } from "../reference/forward.js";
import { readModel } from "../reference/reader.js";
import { findFixture, fixture } from "../support/fixtures.js";
import { named } from "../support/named.js";
import { backends } from "./backends.js";
import { QUANTIZED_MEAN } from "./bounds.js";
import { Driver } from "./driver.js";
import { type GoldenPrompt, smallGolden, smallModels, trainedGolden, trainedModels } from "./golden-models.js";
import { judgeExact } from "./judge.js";

describe.each(named(backends))("%s", (_, backend) => {
  const load = (name: string, context: number) =>
    Driver.load(backend.create(), fixture(name), { cacheType: backend.cacheType, context, prefillChunk: 64 });

  async function logitsOf(driver: Driver, { ids, positions }: GoldenPrompt): Promise<Float32Array[]> {
    const first = Math.min(...positions);
    const rows = await driver.logits(ids, { last: ids.length - first });
    return positions.map((position) => rows[position - first]!);
  }

  async function check(driver: Driver, prompts: readonly GoldenPrompt[]): Promise<void> {
    for (const prompt of prompts) {
      const got = await logitsOf(driver, prompt);
      if (backend.exact) expect(judgeExact(got, prompt.logits)).toBeNull();
      else expect(meanDifference(got, prompt.logits)).toBeLessThan(QUANTIZED_MEAN.golden);
      // A near tie may go the other way where activations are quantised.
      const { ids, greedy } = prompt;
      if (backend.exact && greedy) expect(await driver.greedy(ids.slice(0, greedy.after), greedy.ids.length)).toEqual(greedy.ids);
    }
  }

  it.each(smallModels())("%s has the logits and the greedy tokens of transformers", async (name) => {
    await using driver = await load(name, 224);
    await check(driver, smallGolden(name));
  });

  it.each(trainedModels())("%s has the logits and the greedy tokens of transformers", async (name) => {
    await using driver = await load(name, 704);
    await check(driver, trainedGolden(name));
  });
});

// The draft model has no golden file: the reference, which the others vouch for, stands in.
describe.each(named(findFixture("draft-fp16") ? backends : []))("%s", (_, backend) => {
  it("draft-fp16 has the logits of the reference", async () => {
    const folder = fixture("draft-fp16");
    const { ids } = trainedGolden("demo-gptq-4bit-g128")[0]!;
    const wanted = referenceLogits(readModel(folder), ids);
    await using driver = await Driver.load(backend.create(), folder, { cacheType: backend.cacheType, context: 64 });
    const got = await driver.logits(ids);
    if (backend.exact) expect(judgeExact(got, wanted)).toBeNull();
    else expect(meanDifference(got, wanted)).toBeLessThan(QUANTIZED_MEAN.golden);
  });
});
