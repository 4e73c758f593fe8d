// Perplexity of some windows of each validation set, against what the exact backend had for the
// same windows when its totals over all forty were held to transformers' (full.ts does that);
// and what a quantised KV cache costs there, held to its bound.
//
// A build of the kernels gives its own bits every time, so a backend that has the recorded figure
// for a set's first window has it for the others: they are measured only where it has another one
// (a build without relaxed SIMD rounds differently; so may whatever was changed since).

import { describe, expect, it } from "vitest";
import { fixture } from "../support/fixtures.js";
import { backends, withEveryCache } from "./backends.js";
import { CACHE_COST, PERPLEXITY } from "./bounds.js";
import { COSTLY_CACHES, costOver } from "./cache-cost.js";
import { Driver } from "./driver.js";
import type { ValidationSet } from "./golden-models.js";
import { mean, RECORDED_MODEL, recordedWindows, SETS, type WindowNll, windowNll } from "./perplexity.js";

/** With fewer than ten the cost of a q4 cache says little: from one set of six to the next it differs by a third. */
const WINDOWS = [0, 8, 16, 24, 32];
/** An exact backend is held to the record on every single one. */
const EXACT_WINDOW: Readonly<Record<ValidationSet, number>> = { stories: 8, docs: 24 };
/** What is recorded has nine digits. */
const RECORDED_TO = 1e-7;
const TIMEOUT_MS = 180_000;

const exact = recordedWindows("exact")[RECORDED_MODEL]!;
const quantized = recordedWindows("quantized");

function load(name: string): Promise<Driver> {
  const backend = withEveryCache().find((one) => one.name === name)!;
  const options = { cacheType: backend.cacheType, context: 1024, prefillChunk: 256 };
  return Driver.load(backend.create(), fixture(RECORDED_MODEL), options);
}

/** Mean negative log-likelihood of the windows of each set, on the backend of this name. */
async function nllOf(name: string): Promise<WindowNll> {
  await using driver = await load(name);
  const [first, ...others] = WINDOWS as [number, ...number[]];
  const nll: Record<ValidationSet, number[]> = { stories: [], docs: [] };
  for (const set of SETS) {
    const recorded = quantized[name]![set];
    nll[set].push(await windowNll(driver, set, first));
    const same = Math.abs(nll[set][0]! - recorded[first]!) < RECORDED_TO;
    for (const window of others) nll[set].push(same ? recorded[window]! : await windowNll(driver, set, window));
  }
  return nll;
}

describe("perplexity", () => {
  const [exactName, plainName] = backends.map(({ name }) => name) as [string, string];
  const plain = nllOf(plainName);

  it("is the reference's on the exact backend", { timeout: TIMEOUT_MS }, async () => {
    await using driver = await load(exactName);
    for (const set of SETS) {
      const window = EXACT_WINDOW[set];
      const difference = (await windowNll(driver, set, window)) - exact[set][window]!;
      expect(Math.abs(Math.exp(difference) - 1), `${set}, window ${window}`).toBeLessThan(PERPLEXITY.exact);
    }
  });

  it("is near the reference's where activations are quantised", { timeout: TIMEOUT_MS }, async () => {
    for (const set of SETS) {
      const difference = mean((await plain)[set]) - mean(WINDOWS.map((window) => exact[set][window]!));
      expect(Math.abs(Math.exp(difference) - 1), set).toBeLessThan(PERPLEXITY.quantized);
    }
  });

  it.each(COSTLY_CACHES)("grows little with a %s cache", { timeout: TIMEOUT_MS }, async (cacheType) => {
    const cost = costOver(await nllOf(`${plainName}, ${cacheType} cache`), await plain);
    expect(cost).toBeLessThanOrEqual(CACHE_COST[cacheType]);
    expect(cost, "the cache was quantised").not.toBe(0);
  });
});
