// What a quantised KV cache costs in perplexity, held to its bound.

import { describe, expect, it } from "vitest";
import { createCpuBackend } from "../../src/backend/cpu/index.js";
import { CACHE_COST } from "./bounds.js";
import { COSTLY_CACHES, costOf, meanNll } from "./cache-cost.js";

const MODEL = "demo-gptq-4bit-g128";
/** Fewer say little: from one set of six to the next the cost of q4 differs by a third. */
const WINDOWS = 10;
const TIMEOUT_MS = 180_000;

describe("cpu", () => {
  const backend = createCpuBackend();
  const plain = meanNll(backend, MODEL, "f16", WINDOWS);

  it.each(COSTLY_CACHES)(
    "a %s cache costs little",
    async (cacheType) => {
      const cost = costOf(await meanNll(backend, MODEL, cacheType, WINDOWS), await plain);
      expect(cost).toBeLessThanOrEqual(CACHE_COST[cacheType]);
    },
    TIMEOUT_MS,
  );
});
