// A sequence that goes on from a copy of another's KV pages is the other's twin: the same bits
// follow, whatever the original is fed meanwhile.

import { describe, expect, it } from "vitest";
import { named } from "../support/named.js";
import { makeSynthetic, type SyntheticModel } from "../support/synthetic-checkpoint.js";
import { type BackendUnderTest, withEveryCache } from "./backends.js";
import { Driver } from "./driver.js";
import { tiny } from "./tiny-model.js";

const models: { name: string; model: SyntheticModel }[] = [
  { name: "whole context", model: { ...tiny, architecture: "llama" } },
  { name: "a window", model: { ...tiny, window: 100 } },
  { name: "a window in the upper layer only", model: { ...tiny, architecture: "qwen2", window: 100, firstWindowedLayer: 1 } },
];

function idsOf(count: number, step: number): number[] {
  return Array.from({ length: count }, (_, i) => (i * step + 7) % tiny.vocab);
}

function bits(rows: readonly Float32Array[]): Buffer {
  return Buffer.concat(rows.map((row) => Buffer.from(row.buffer, row.byteOffset, row.byteLength)));
}

async function withDriver(
  backend: BackendUnderTest,
  model: SyntheticModel,
  use: (driver: Driver) => Promise<void>,
): Promise<void> {
  using checkpoint = makeSynthetic(model);
  const options = { cacheType: backend.cacheType, context: 512, prefillChunk: 64, maxSequences: 3 };
  await using driver = await Driver.load(backend.create(), checkpoint.folder, options);
  await use(driver);
}

describe.each(named(withEveryCache()))("%s", (_, backend) => {
  it.each(named(models))("continues a forked sequence with the same bits: %s", async (_, { model }) => {
    await withDriver(backend, model, async (driver) => {
      const shared = idsOf(300, 31);
      const [left, right] = [idsOf(12, 5), idsOf(12, 11)];
      const whole = { last: 12, chunk: 64 };
      const wanted = [await driver.logits([...shared, ...left], whole), await driver.logits([...shared, ...right], whole)];

      const original = driver.newSequence();
      await driver.read(original, shared, () => null);
      const fork = await driver.fork(original);
      const rows: Float32Array[][] = [[], []];
      for (let i = 0; i < left.length; i++) {
        const outputs = [{ index: 0, logits: true }];
        const answers = await driver.step([
          { sequence: original, ids: [left[i]!], outputs },
          { sequence: fork, ids: [right[i]!], outputs },
        ]);
        answers.forEach(([output], which) => {
          rows[which]!.push(output!.logits!);
        });
      }
      rows.forEach((each, which) => {
        expect(bits(each).equals(bits(wanted[which]!))).toBe(true);
      });
    });
  });

  it("refuses copies of pages and groups that are not there", async () => {
    await withDriver(backend, models[0]!.model, async ({ runtime }) => {
      const { pages } = runtime.plan.cacheGroups[0]!;
      for (const copy of [
        { group: 1, from: 0, to: 1 },
        { group: 0, from: -1, to: 1 },
        { group: 0, from: 0, to: pages },
        { group: 0, from: 0.5, to: 1 },
        { group: 0, from: 2, to: 2 },
      ])
        await expect(runtime.copyPages([copy])).rejects.toMatchObject({ code: "INVALID_BATCH" });
    });
  });
});
