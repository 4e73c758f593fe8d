// Quantised KV caches on a GPU: what they cost, that a copied page goes on as the original does, and that
// repeats have the same bits.

import type { Backend } from "../../src/backend/backend.js";
import { CACHE_COST } from "../conformance/bounds.js";
import { COSTLY_CACHES, costOf, meanNll } from "../conformance/cache-cost.js";
import { Driver } from "../conformance/driver.js";
import { fixture } from "../support/fixtures.js";
import type { Report } from "./report.js";

const MODEL = "demo-gptq-4bit-g128";
const WINDOWS = 20;

export async function checkCaches(backend: Backend, report: Report): Promise<void> {
  const plain = await meanNll(backend, MODEL, "f16", WINDOWS);
  for (const cacheType of COSTLY_CACHES) {
    await report.check(`perplexity with a ${cacheType} cache`, async () => {
      const cost = costOf(await meanNll(backend, MODEL, cacheType, WINDOWS), plain);
      if (!(cost <= CACHE_COST[cacheType])) throw new Error(`costs ${cost}, allowed ${CACHE_COST[cacheType]}`);
      return `costs ${(cost * 100).toFixed(3)} % over ${WINDOWS} windows`;
    });
    await report.check(`a ${cacheType} cache is copied and repeats bit by bit`, async () => {
      const options = { cacheType, context: 512, prefillChunk: 128, maxSequences: 3 };
      await using driver = await Driver.load(backend, fixture(MODEL), options);
      const shared = Array.from({ length: 300 }, (_, i) => (i * 31 + 7) % 1000);
      const original = driver.newSequence();
      await driver.read(original, shared, () => null);
      const fork = await driver.fork(original);
      const rows: Buffer[][] = [[], []];
      for (let step = 0; step < 12; step++)
        for (const [i, sequence] of [original, fork].entries()) {
          const [output] = await driver.read(sequence, [(step * 97) % 1000], () => ({ logits: true }));
          rows[i]!.push(Buffer.from(Float32Array.from(output!.logits!).buffer));
        }
      if (!Buffer.concat(rows[0]!).equals(Buffer.concat(rows[1]!))) throw new Error("the copy went on otherwise");
      return "12 steps";
    });
  }
}
