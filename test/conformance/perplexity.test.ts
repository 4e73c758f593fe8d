// Perplexity of some windows of each validation set, against what the exact backend had for the
// same windows when its totals over all forty were held to transformers' (full.ts does that);
// and what a quantised KV cache costs there, held to its bound.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { packageRoot } from "../../src/paths.js";
import { fixture } from "../support/fixtures.js";
import { backends, withEveryCache } from "./backends.js";
import { CACHE_COST, PERPLEXITY } from "./bounds.js";
import { COSTLY_CACHES, costOf } from "./cache-cost.js";
import { Driver } from "./driver.js";
import type { ValidationSet } from "./golden-models.js";
import { type RecordedWindows, windowNll } from "./perplexity.js";

const MODEL = "demo-gptq-4bit-g128";
const SETS: readonly ValidationSet[] = ["stories", "docs"];
/** With fewer than ten the cost of a q4 cache says little: from one set of six to the next it differs by a third. */
const WINDOWS = [0, 8, 16, 24, 32];
/** An exact backend is held to the record on every single one. */
const EXACT_WINDOWS = [0, 16, 32];
const TIMEOUT_MS = 180_000;
const recorded = JSON.parse(readFileSync(join(packageRoot, "test/conformance/window-nll.json"), "utf8")) as RecordedWindows;

type Nll = Readonly<Record<ValidationSet, readonly number[]>>;

/** Mean negative log-likelihood of each window of each set, on the backend of this name. */
async function measure(name: string, windows: readonly number[]): Promise<Nll> {
  const backend = withEveryCache().find((one) => one.name === name)!;
  const options = { cacheType: backend.cacheType, context: 1024, prefillChunk: 256 };
  await using driver = await Driver.load(backend.create(), fixture(MODEL), options);
  const nll: Record<ValidationSet, number[]> = { stories: [], docs: [] };
  for (const set of SETS) for (const window of windows) nll[set].push(await windowNll(driver, set, window));
  return nll;
}

const mean = (values: readonly number[]) => values.reduce((a, b) => a + b, 0) / values.length;

describe("perplexity", () => {
  const [exact, plain] = backends.map(({ name }) => name) as [string, string];
  const quantized = measure(plain, WINDOWS);

  it("is the reference's on the exact backend", { timeout: TIMEOUT_MS }, async () => {
    const nll = await measure(exact, EXACT_WINDOWS);
    for (const set of SETS)
      for (const [i, window] of EXACT_WINDOWS.entries()) {
        const difference = nll[set][i]! - recorded[MODEL]![set][window]!;
        expect(Math.abs(Math.exp(difference) - 1), `${set}, window ${window}`).toBeLessThan(PERPLEXITY.exact);
      }
  });

  it("is near the reference's where activations are quantised", { timeout: TIMEOUT_MS }, async () => {
    const nll = await quantized;
    for (const set of SETS) {
      const difference = mean(nll[set]) - mean(WINDOWS.map((window) => recorded[MODEL]![set][window]!));
      expect(Math.abs(Math.exp(difference) - 1), set).toBeLessThan(PERPLEXITY.quantized);
    }
  });

  it.each(COSTLY_CACHES)("grows little with a %s cache", { timeout: TIMEOUT_MS }, async (cacheType) => {
    const nll = await measure(`${plain}, ${cacheType} cache`, WINDOWS);
    const all = (of: Nll) => mean(SETS.flatMap((set) => of[set]));
    const cost = costOf(all(nll), all(await quantized));
    expect(cost).toBeLessThanOrEqual(CACHE_COST[cacheType]);
    expect(cost, "the cache was quantised").not.toBe(0);
  });
});
