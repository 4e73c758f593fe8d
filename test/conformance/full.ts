// The whole perplexity reference: every trained checkpoint on this machine, both validation
// sets, all forty windows, every backend; and what quantised KV caches cost over them. With
// full-random.ts some ten minutes on two cores:
//
//   npm run conformance:full
//
// With RECORD_WINDOWS=1 what the CPU backends had for each window is written to the records that the
// shorter tests compare single windows against.

import { describe, expect, it } from "vitest";
import { fixture } from "../support/fixtures.js";
import { named } from "../support/named.js";
import { backends, withEveryCache } from "./backends.js";
import { CACHE_COST, PERPLEXITY } from "./bounds.js";
import { COSTLY_CACHES, costOver } from "./cache-cost.js";
import { Driver } from "./driver.js";
import { trainedModels, type ValidationSet } from "./golden-models.js";
import { allWindows, perplexityDifference, RECORDED_MODEL, recordedWindows, recordWindows, SETS } from "./perplexity.js";

describe.each(named(backends))("%s", (_, backend) => {
  const cases = trainedModels().flatMap((name) => SETS.map((set) => [name, set] as const));
  it.each(cases)("%s, %s", async (name, set) => {
    const options = { cacheType: backend.cacheType, context: 1024, prefillChunk: 256 };
    await using driver = await Driver.load(backend.create(), fixture(name), options);
    const windows = await allWindows(driver, name, set);
    const difference = perplexityDifference(windows, name, set);
    console.log(`${backend.name}: ${name}, ${set}: perplexity ${(difference * 100).toFixed(4)} % from the reference`);
    expect(Math.abs(difference)).toBeLessThan(backend.exact ? PERPLEXITY.exact : PERPLEXITY.quantized);
    if (!process.env.RECORD_WINDOWS) return;
    if (backend.exact) recordWindows("exact", name, set, windows);
    else if (name === RECORDED_MODEL) recordWindows("quantized", backend.name, set, windows);
  });
});

// Against the record of the plain cache, which perplexity.test.ts holds the backend to.
it.each(COSTLY_CACHES)("a %s cache costs little", async (cacheType) => {
  const plain = backends.find(({ exact }) => !exact)!;
  const backend = withEveryCache().find((one) => one.cacheType === cacheType)!;
  const options = { cacheType, context: 1024, prefillChunk: 256 };
  await using driver = await Driver.load(backend.create(), fixture(RECORDED_MODEL), options);
  const nll: Record<ValidationSet, number[]> = { stories: [], docs: [] };
  for (const set of SETS) nll[set] = await allWindows(driver, RECORDED_MODEL, set);
  const cost = costOver(nll, recordedWindows("quantized")[plain.name]!);
  console.log(`${backend.name}: costs ${(cost * 100).toFixed(4)} %`);
  expect(cost).toBeLessThanOrEqual(CACHE_COST[cacheType]);
  if (process.env.RECORD_WINDOWS) for (const set of SETS) recordWindows("quantized", backend.name, set, nll[set]);
});
