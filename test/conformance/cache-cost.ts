// What a quantised KV cache costs: perplexity on validation windows against the same backend's with a plain cache.

import type { Backend } from "../../src/backend/backend.js";
import type { CacheType } from "../../src/memory/packing.js";
import { fixture } from "../support/fixtures.js";
import { CACHE_COST } from "./bounds.js";
import { Driver } from "./driver.js";
import type { ValidationSet } from "./golden-models.js";
import { mean, SETS, type WindowNll, windowNll } from "./perplexity.js";

/** Types that have a cost, see CACHE_COST. */
export type CostlyCache = keyof typeof CACHE_COST;

export const COSTLY_CACHES = Object.keys(CACHE_COST) as CostlyCache[];

/** Mean negative log-likelihood of the first windows of both validation sets, half of them each. */
export async function meanNll(backend: Backend, model: string, cacheType: CacheType, windows: number): Promise<number> {
  await using driver = await Driver.load(backend, fixture(model), { cacheType, context: 1024, prefillChunk: 512 });
  let sum = 0;
  for (let i = 0; i < windows; i++) {
    const set: ValidationSet = i % 2 === 0 ? "stories" : "docs";
    sum += await windowNll(driver, set, i >> 1);
  }
  return sum / windows;
}

/** How much larger one perplexity is than the other; less than 0 where it is smaller. */
export function costOf(nll: number, plainNll: number): number {
  return Math.exp(nll - plainNll) - 1;
}

/** The same over windows of both sets. */
export function costOver(nll: WindowNll, plain: WindowNll): number {
  const all = (of: WindowNll) => mean(SETS.flatMap((set) => of[set]));
  return costOf(all(nll), all(plain));
}
