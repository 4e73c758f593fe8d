// The same bits every time: alone or in any batch, in chunks of any size, on any number of
// threads, wherever the pages lie, in whichever kind of engine.

import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import type { Output } from "../../src/backend/backend.js";
import { type LoadOptions, loadModel } from "../../src/index.js";
import { largestDifference } from "../reference/compare.js";
import { ReferenceSequence, referenceLogits } from "../reference/forward.js";
import { fixture } from "../support/fixtures.js";
import { named } from "../support/named.js";
import {
  gptqWeights,
  makeSynthetic,
  type SyntheticCheckpoint,
  type SyntheticModel,
  smallLlama,
} from "../support/synthetic-checkpoint.js";
import { type BackendUnderTest, backends, withEveryCache } from "./backends.js";
import { type DriveOptions, Driver } from "./driver.js";
import { judgeExact, judgeQuantized } from "./judge.js";
import { misreadingsOf } from "./misreadings.js";
import { tiny } from "./tiny-model.js";

const models: { name: string; model: SyntheticModel }[] = [
  { name: "4-bit act-order", model: { ...smallLlama, weights: { ...gptqWeights, order: "act-order", symmetric: false } } },
  { name: "qwen3, 8-bit", model: { ...smallLlama, architecture: "qwen3", weights: { ...gptqWeights, bits: 8 } } },
  { name: "plain f16 with a window", model: { ...smallLlama, architecture: "mistral", window: 19 } },
];

function idsOf(count: number, step: number): number[] {
  return Array.from({ length: count }, (_, i) => (i * step + 7) % smallLlama.vocab);
}

/** Bytes of these logits: equal means bit by bit. */
function bits(rows: readonly Float32Array[]): Buffer {
  return Buffer.concat(rows.map((row) => Buffer.from(row.buffer, row.byteOffset, row.byteLength)));
}

/** Loads a model with room for five sequences. */
function load(
  backend: BackendUnderTest,
  { folder }: SyntheticCheckpoint,
  options: Partial<DriveOptions> & { threads?: number } = {},
): Promise<Driver> {
  const { threads, ...rest } = options;
  return Driver.load(backend.create(threads), folder, {
    cacheType: backend.cacheType,
    context: 256,
    prefillChunk: 128,
    maxSequences: 5,
    ...rest,
  });
}

describe.each(named(models))("%s", (_, { model }) => {
  let checkpoint: SyntheticCheckpoint;
  beforeAll(() => {
    checkpoint = makeSynthetic(model);
  });
  afterAll(() => checkpoint[Symbol.dispose]());

  describe.each(named(withEveryCache()))("%s", (_, backend) => {
    let driver: Driver;
    beforeAll(async () => {
      driver = await load(backend, checkpoint);
    });
    afterAll(() => driver.runtime.dispose());

    it("gives the same bits for every chunk size, thread count and repetition", async () => {
      const ids = idsOf(70, 31);
      const alone = await driver.logits(ids);
      const others = [await driver.logits(ids)];
      for (const chunk of [1, 7, 33]) others.push(await driver.logits(ids, { chunk }));
      await using threaded = await load(backend, checkpoint, { threads: 3, prefillChunk: 64 });
      others.push(await threaded.logits(ids));
      for (const rows of others) expect(bits(rows).equals(bits(alone))).toBe(true);
    });

    it("gives a sequence the same bits alone and in any batch", async () => {
      const prompts = [idsOf(1, 3), idsOf(23, 31), idsOf(40, 17), idsOf(9, 101), idsOf(33, 29)];
      const alone: Buffer[] = [];
      for (const ids of prompts) alone.push(bits(await driver.logits(ids)));
      const sequences = prompts.map(() => driver.newSequence());
      const answers: Output[][] = prompts.map(() => []);
      // First all but the last two ids of each, then one and one more: a ragged prefill and two batched decodes.
      const parts = [(ids: number[]) => ids.slice(0, -2), (ids: number[]) => ids.slice(-2, -1), (ids: number[]) => ids.slice(-1)];
      for (const part of parts) {
        const feeds = prompts.map((ids, i) => {
          const outputs = part(ids).map((_, index) => ({ index, logits: true }));
          return { i, feed: { sequence: sequences[i]!, ids: part(ids), outputs } };
        });
        const busy = feeds.filter(({ feed }) => feed.ids.length > 0);
        const outputs = await driver.step(busy.map(({ feed }) => feed));
        busy.forEach(({ i }, at) => {
          answers[i]!.push(...outputs[at]!);
        });
      }
      for (const sequence of sequences) driver.end(sequence);
      answers.forEach((outputs, i) => {
        expect(bits(outputs.map(({ logits }) => logits!)).equals(alone[i]!)).toBe(true);
      });
    });
  });
});

describe("every backend", () => {
  it.each([
    ["a window shorter than a page", { window: 50 }],
    ["a window longer than a page", { window: 300 }],
    ["a window in the upper layer only", { architecture: "qwen2", window: 100, firstWindowedLayer: 1 }],
    ["no window", { architecture: "llama" }],
  ] as const)("reads 700 tokens with %s", async (_, changes) => {
    const model: SyntheticModel = { ...tiny, ...changes };
    using checkpoint = makeSynthetic(model);
    const ids = Array.from({ length: 700 }, (_, i) => (i * 31 + (i >> 3)) % model.vocab);
    const wanted = referenceLogits(checkpoint.truth, ids);
    for (const backend of backends) {
      await using driver = await load(backend, checkpoint, { context: 700, prefillChunk: 90, maxSequences: 1 });
      const got = await driver.logits(ids);
      const verdict = backend.exact
        ? judgeExact(got, wanted)
        : judgeQuantized(got, wanted, ids, misreadingsOf(model, checkpoint));
      expect(verdict, backend.name).toBeNull();
    }
  });

  it.each(named(backends))("stretches the rotation of a dynamic model as it decodes past its context: %s", async (_, backend) => {
    const rope = { type: "dynamic", theta: 10000, factor: 4, maxPositions: 24 } as const;
    using checkpoint = makeSynthetic({ ...smallLlama, rope, maxPositions: 24 });
    await using driver = await load(backend, checkpoint, { context: 64 });
    const ids = idsOf(20, 31);
    const generated = await driver.greedy(ids, 30);
    // The prompt read again at its final length has other rotations: decoding must not have used those.
    const together = await driver.logits([...ids, ...generated]);
    const stepwise = driver.newSequence();
    await driver.read(stepwise, ids, () => null);
    const rows: Float32Array[] = [];
    for (const id of generated) rows.push((await driver.read(stepwise, [id], () => ({ logits: true })))[0]!.logits!);
    expect(bits(rows).equals(bits(together.slice(ids.length)))).toBe(false);
    if (!backend.exact) return;
    const sequence = new ReferenceSequence(checkpoint.truth);
    sequence.feed(ids);
    const wanted = generated.map((id) => sequence.feed([id])[0]!);
    expect(judgeExact(rows, wanted)).toBeNull();
  });
});

describe("the library", () => {
  const ids = [1, 4025, 3, 16, 120, 7, 900];
  async function answer(options: LoadOptions): Promise<{ logits: Float32Array[]; ids: readonly number[] }> {
    await using model = await loadModel(fixture("demo-gptq-4bit-g128"), { ctx: 256, ...options });
    const { ids: generated } = await model.generate(ids, { maxTokens: 24, temperature: 0.8, seed: 5, ignoreEos: true }).result;
    return { logits: await model.logits(ids, { last: ids.length }), ids: generated };
  }

  it.each([true, false])(
    "answers alike in every kind of engine, on any threads and, but for rounding, without relaxed SIMD (cpuExact: %s)",
    async (cpuExact) => {
      const first = await answer({ engine: "process", threads: 2, cpuExact });
      const others = [
        await answer({ engine: "thread", threads: 2, cpuExact }),
        await answer({ engine: "process", threads: 1, cpuExact }),
      ];
      for (const other of others) {
        expect(bits(other.logits).equals(bits(first.logits))).toBe(true);
        expect(other.ids).toEqual(first.ids);
      }
      vi.stubEnv("EXLLAMA_NO_RELAXED_SIMD", "1");
      const plain = await answer({ cpuExact, threads: 1 });
      vi.unstubAllEnvs();
      expect(largestDifference(plain.logits, first.logits)).toBeLessThan(1e-4);
    },
  );
});
