// LoRA against Hugging Face's PEFT and against the reference with W + weight · scale · B A; and
// the promise that what a sequence gets does not depend on what runs beside it, which adapters
// others use, or how its tokens are cut into steps.

import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { AdapterUse } from "../../src/model/adapter.js";
import { meanDifference } from "../reference/compare.js";
import { referenceLogits } from "../reference/forward.js";
import { floatsOf, integersOf, readModel, readTensors } from "../reference/reader.js";
import { findFixture, fixture } from "../support/fixtures.js";
import { named } from "../support/named.js";
import { makeAdapter, type SyntheticAdapter, smallAdapter } from "../support/synthetic-adapter.js";
import { backends } from "./backends.js";
import { QUANTIZED_MEAN } from "./bounds.js";
import { Driver } from "./driver.js";
import { judgeExact } from "./judge.js";

const trained = { pirate: fixture("lora-pirate"), brief: fixture("lora-brief") };
const golden = readTensors(fixture("lora-on-fp16.golden.safetensors"));
/** The checkpoint that the trained adapters were made for is larger than the tree should be. */
const original = findFixture("demo-fp16");

const pirate: AdapterUse = { index: 0, weight: 1 };
const brief: AdapterUse = { index: 1, weight: 1 };
const both: readonly AdapterUse[] = [
  { index: 0, weight: 0.7 },
  { index: 1, weight: 0.5 },
];

const COMBINATIONS: readonly [name: string, uses: readonly AdapterUse[]][] = [
  ["pirate", [pirate]],
  ["brief", [brief]],
  ["pirate0.7+brief0.5", both],
];

const idsOf = (name: string) => [...integersOf(golden.get(name)!)];
const rowsOf = (name: string) => {
  const tensor = golden.get(name)!;
  const values = floatsOf(tensor);
  const width = tensor.shape[1]!;
  return Array.from({ length: tensor.shape[0]! }, (_, i) => values.subarray(i * width, (i + 1) * width));
};

describe.each(original ? named(backends) : [])("trained adapters, %s", (_, backend) => {
  const load = () =>
    Driver.load(backend.create(), original!, { cacheType: backend.cacheType, context: 128, prefillChunk: 16, adapters: trained });

  it.each(COMBINATIONS)("%s gives PEFT's logits and greedy tokens", async (name, uses) => {
    await using driver = await load();
    for (const prompt of ["prompt0", "prompt1"]) {
      const ids = idsOf(`${name}.${prompt}.ids`);
      const wanted = rowsOf(`${name}.${prompt}.logits_last4`);
      const got = await driver.logits(ids, { last: 4, adapters: uses });
      if (!backend.exact) {
        expect(meanDifference(got, wanted)).toBeLessThan(QUANTIZED_MEAN.golden);
        continue;
      }
      expect(judgeExact(got, wanted)).toBeNull();
      const greedy = idsOf(`${name}.${prompt}.greedy48`);
      expect(await driver.greedy(ids, greedy.length, uses)).toEqual(greedy);
    }
  });
});

const synthetic: { name: string; adapter: SyntheticAdapter }[] = [
  { name: "f16, all linears", adapter: smallAdapter },
  {
    name: "rslora, bf16 in a PyTorch file",
    adapter: {
      ...smallAdapter,
      rank: 3,
      alpha: 5,
      dtype: "bf16",
      file: "bin",
      config: { use_rslora: true },
      pairOf: () => ({ rank: 3, scale: 5 / Math.sqrt(3) }),
      infix: ".default",
    },
  },
  {
    name: "ranks and alphas of their own, f32, a layer left out",
    adapter: {
      ...smallAdapter,
      targets: ["q", "v", "down"],
      dtype: "f32",
      without: [1],
      config: {
        rank_pattern: { down_proj: 9, "model.layers.0.self_attn.q_proj": 1 },
        alpha_pattern: { "^model.layers.0.self_attn.q_proj": 3 },
      },
      pairOf: (layer, target) =>
        target === "down"
          ? { rank: 9, scale: 8 / 9 }
          : target === "q" && layer === 0
            ? { rank: 1, scale: 3 }
            : { rank: 4, scale: 2 },
    },
  },
];

describe("synthetic adapters", () => {
  it.each(named(synthetic))("%s: what the reference makes of W + B A", async (_, { adapter }) => {
    for (const name of ["tiny/llama-gqa-tied", "hf/llama-head-dim-24"]) {
      const model = readModel(fixture(name));
      using written = makeAdapter(adapter, model);
      const ids = Array.from({ length: 21 }, (_, i) => (i * 37 + 5) % model.vocab);
      const plain = referenceLogits(model, ids);
      const cases = [1, -0.6].map((weight) => ({ weight, wanted: referenceLogits(written.applied(model, weight), ids) }));
      for (const { wanted } of cases) expect(meanDifference(plain, wanted), "the adapter matters").toBeGreaterThan(0.1);
      for (const backend of backends) {
        const options = { cacheType: backend.cacheType, context: 64, prefillChunk: 8, adapters: { only: written.folder } };
        await using driver = await Driver.load(backend.create(), fixture(name), options);
        for (const { weight, wanted } of cases) {
          const got = await driver.logits(ids, { adapters: [{ index: 0, weight }] });
          if (backend.exact) expect(judgeExact(got, wanted)).toBeNull();
          else expect(meanDifference(got, wanted), backend.name).toBeLessThan(QUANTIZED_MEAN.golden);
        }
      }
    }
  });
});

describe.each(named(backends))("adapters in batches, %s", (_, backend) => {
  const model = fixture("demo-gptq-4bit-g128-act");
  const options = { cacheType: backend.cacheType, context: 256, maxSequences: 4, prefillChunk: 80, adapters: trained };
  const prompt = Array.from({ length: 25 }, (_, i) => (i * 331 + 17) % 4096);
  const wishes: readonly (readonly AdapterUse[])[] = [[], [pirate], both, [brief]];
  let driver: Driver;
  beforeAll(async () => {
    driver = await Driver.load(backend.create(), model, options);
  });
  afterAll(() => driver.runtime.dispose());

  it("an entry gets the same bits beside others with other adapters", async () => {
    const alone: Float32Array[][] = [];
    for (const adapters of wishes) alone.push(await driver.logits(prompt, { last: 2, chunk: 7, adapters }));
    const sequences = wishes.map((adapters) => driver.newSequence(adapters));
    // Lengths differ, so rows of the steps lie elsewhere for each of them.
    await driver.step(sequences.map((sequence, i) => ({ sequence, ids: prompt.slice(0, 5 + i), outputs: [] })));
    await driver.step(sequences.map((sequence, i) => ({ sequence, ids: prompt.slice(5 + i, -2), outputs: [] })));
    const first = await driver.step(
      sequences.map((sequence) => ({ sequence, ids: prompt.slice(-2, -1), outputs: [{ index: 0, logits: true }] })),
    );
    const second = await driver.step(
      sequences.map((sequence) => ({ sequence, ids: prompt.slice(-1), outputs: [{ index: 0, logits: true }] })),
    );
    for (const sequence of sequences) driver.end(sequence);
    wishes.forEach((_, i) => {
      expect(first[i]![0]!.logits).toEqual(alone[i]![0]);
      expect(second[i]![0]!.logits).toEqual(alone[i]![1]);
    });
  });

  it("threads and chunks change no bit, and neither does the order of the adapters", async () => {
    const wanted = await driver.logits(prompt, { last: 3, chunk: 25, adapters: both });
    for (const [threads, chunk, adapters] of [
      [3, 4, both],
      [2, 25, [...both].reverse()],
    ] as const) {
      await using threaded = await Driver.load(backend.create(threads), model, options);
      expect(await threaded.logits(prompt, { last: 3, chunk, adapters })).toEqual(wanted);
    }
  });

  it("without adapters the model is the one that was loaded without any", async () => {
    await using plain = await Driver.load(backend.create(), model, { ...options, adapters: {} });
    expect(await driver.logits(prompt, { last: 2 })).toEqual(await plain.logits(prompt, { last: 2 }));
  });

  it("refuses an index that is none, one twice, and a weight that is no number", async () => {
    for (const [adapters, message] of [
      [[{ index: 2, weight: 1 }], /adapter 2 is none of the 2 loaded/],
      [[pirate, pirate], /named twice/],
      [[{ index: 0, weight: Number.NaN }], /weight NaN/],
    ] as const)
      await expect(driver.logits([1, 2], { adapters })).rejects.toThrow(message);
  });
});
