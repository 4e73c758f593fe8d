// Adapters on a GPU: the kernels against arithmetic on the host at the sizes of real models, then
// whole models against the reference, PEFT's golden files and themselves in batches.

import type { Backend } from "../../src/backend/backend.js";
import { createCpuBackend } from "../../src/backend/cpu/index.js";
import { KernelQueue } from "../../src/backend/cuda/launch/kernel-queue.js";
import { runAdapters } from "../../src/backend/cuda/linears/run-adapters.js";
import type { PlacedLinear } from "../../src/backend/cuda/steps/stage.js";
import { packFactors } from "../../src/backend/cuda/weights/load-adapters.js";
import type { AdapterUse } from "../../src/model/adapter.js";
import { Driver, greedyAt } from "../conformance/driver.js";
import { meanDifference } from "../reference/compare.js";
import { referenceLogits } from "../reference/forward.js";
import { floatsOf, integersOf, readModel, readTensors } from "../reference/reader.js";
import { fromHalfBits, toHalfBits } from "../support/element-types.js";
import { findFixture, fixture } from "../support/fixtures.js";
import { Random } from "../support/random.js";
import { makeAdapter, smallAdapter } from "../support/synthetic-adapter.js";
import type { KernelBench } from "./kernel-bench.js";
import type { Report } from "./report.js";

/** Root mean square of the logits' error in units of their deviation, as in conformance.ts. */
const MEAN_BOUND = 0.02;
const ADAPTERS = { pirate: "lora-pirate", brief: "lora-brief" } as const;
const both: readonly AdapterUse[] = [
  { index: 0, weight: 0.7 },
  { index: 1, weight: 0.5 },
];
const WISHES: readonly (readonly AdapterUse[])[] = [[], [{ index: 0, weight: 1 }], both, [{ index: 1, weight: 1 }]];

/** Counts in `bench` what disagrees. */
export function checkAdapterKernels(bench: KernelBench): void {
  for (const rows of [1, 3, 16, 17, 40, 133]) for (const f32 of [false, true]) checkGroup(bench, rows, f32);
}

/** Two linears of one x, three adapters of which the second leaves the first linear alone. */
function checkGroup(bench: KernelBench, rows: number, f32: boolean): void {
  const { gpu } = bench;
  const random = new Random(rows * 2 + (f32 ? 1 : 0));
  const inputs = 4096;
  const shapes = [
    { out: 4096, adapterRanks: [16, 0, 5] },
    { out: 1030, adapterRanks: [8, 3, 0] },
  ];
  const halves = (count: number, deviation: number) =>
    Float32Array.from(random.normals(count, deviation), (value) => fromHalfBits(toHalfBits(value)));
  const x = halves(rows * inputs, 1);
  const entries = Math.min(rows, 5);
  const weights = Float32Array.from({ length: entries * 3 }, (_, i) => [0, 1, 0.7, -0.5, 0][(i * 7) % 5]!);
  const sequence = Int32Array.from({ length: rows }, (_, row) => row % entries);
  const linears = shapes.map(({ out, adapterRanks }) => {
    const pairs = adapterRanks.map((rank) =>
      rank > 0 ? { a: halves(rank * inputs, 1 / 64), b: halves(out * rank, 0.25) } : null,
    );
    const packed = packFactors({ in: inputs, out, adapterRanks }, pairs);
    const y = Float32Array.from(f32 ? random.normals(rows * out, 1) : halves(rows * out, 1), Math.fround);
    return { out, adapterRanks, pairs, packed, y };
  });
  const total = linears.reduce((sum, { packed }) => sum + packed.owners.length * 8, 0);
  const place = (values: Float32Array, asHalf: boolean) => bench.upload(asHalf ? Uint16Array.from(values, toHalfBits) : values);
  const onCard = {
    x: place(x, true),
    y: linears.map(({ y }) => place(y, !f32)),
    t: gpu.allocate(rows * total * 4),
    weights: bench.upload(weights),
    sequence: bench.upload(sequence),
    factors: linears.map(({ packed }) => ({
      ranks: packed.owners.length * 8,
      a: bench.upload(packed.a),
      b: bench.upload(packed.b),
      owners: bench.upload(packed.owners),
    })),
  };
  const placed = linears.map(({ out, adapterRanks }, i): PlacedLinear => {
    const spec = { name: "x", in: inputs, out, bias: false, format: { kind: "plain", dtype: "f16" } as const, adapterRanks };
    const none = { storage: { kind: "half" } as const, weights: 0n, weightBytes: 0, permutation: 0n, groupOf: 0n, bias: 0n };
    return { spec, ...none, adapters: onCard.factors[i]! };
  });
  const { t, weights: table, sequence: rowsOf } = onCard;
  const call = { x: onCard.x, y: onCard.y, rows, f32 };
  runAdapters(new KernelQueue(gpu, true), placed, call, { t, weights: table, sequence: rowsOf, adapters: 3 });
  linears.forEach(({ out, pairs, adapterRanks, y }, i) => {
    const got = f32 ? bench.download(onCard.y[i]!, rows * out) : bench.downloadHalves(onCard.y[i]!, rows * out);
    // Some columns of some rows; every row and both ends of the columns.
    const picked: number[] = [];
    for (let row = 0; row < rows; row++)
      for (const column of [0, 1, out - 1, random.integer(out)]) picked.push(row * out + column);
    const truth = picked.map((at) => {
      const [row, column] = [Math.floor(at / out), at % out];
      let sum = y[at]!;
      adapterRanks.forEach((rank, adapter) => {
        const weight = weights[sequence[row]! * 3 + adapter]!;
        for (let r = 0; weight !== 0 && r < rank; r++) {
          let dot = 0;
          for (let k = 0; k < inputs; k++) dot += pairs[adapter]!.a[r * inputs + k]! * x[row * inputs + k]!;
          sum += weight * dot * pairs[adapter]!.b[column * rank + r]!;
        }
      });
      return sum;
    });
    const name = `adapters on ${rows} rows, linear ${i}, ${f32 ? "f32" : "f16"}`;
    bench.compare(
      name,
      picked.map((at) => got[at]!),
      truth,
      f32 ? 1e-4 : 6e-3,
    );
  });
  bench.free(onCard.x, ...onCard.y, t, table, rowsOf, ...onCard.factors.flatMap(({ a, b, owners }) => [a, b, owners]));
}

export async function checkAdapters(backend: Backend, report: Report): Promise<void> {
  await checkAgainstReference(backend, report);
  await checkAgainstExact(backend, report);
  await checkAgainstPeft(backend, report);
  await checkAdapterBatches(backend, report);
}

async function checkAgainstReference(backend: Backend, report: Report): Promise<void> {
  for (const name of ["tiny/llama-gqa-tied", "tiny/llama-mha"])
    await report.check(`adapter on ${name}`, async () => {
      const model = readModel(fixture(name));
      using adapter = makeAdapter({ ...smallAdapter, dtype: "f32", file: "bin" }, model);
      const options = { cacheType: "f16" as const, context: 128, prefillChunk: 64, adapters: { only: adapter.folder } };
      await using driver = await Driver.load(backend, fixture(name), options);
      const ids = Array.from({ length: 50 }, (_, i) => (i * 37 + 5) % model.vocab);
      const wanted = referenceLogits(adapter.applied(model, 0.8), ids);
      const got = await driver.logits(ids, { adapters: [{ index: 0, weight: 0.8 }] });
      return within(meanDifference(got, wanted));
    });
}

/** The quantised model that is always there, in chunks of many and of one token. */
async function checkAgainstExact(backend: Backend, report: Report): Promise<void> {
  const model = fixture("demo-gptq-4bit-g128");
  const ids = Array.from({ length: 90 }, (_, i) => (i * 331 + 17) % 4096);
  const options = { context: 256, prefillChunk: 64, adapters: folders() };
  for (const adapters of WISHES)
    await report.check(`adapters ${JSON.stringify(adapters)} on the demo model`, async () => {
      await using exact = await Driver.load(createCpuBackend({ exact: true }), model, { ...options, cacheType: "f32" });
      const wanted = await exact.logits(ids, { last: 8, adapters });
      await using driver = await Driver.load(backend, model, { ...options, cacheType: "f16" });
      const differences: number[] = [];
      for (const chunk of [64, 20, 1])
        differences.push(meanDifference(await driver.logits(ids, { last: 8, chunk, adapters }), wanted));
      return within(Math.max(...differences));
    });
}

async function checkAgainstPeft(backend: Backend, report: Report): Promise<void> {
  const model = findFixture("demo-fp16");
  if (!model) return;
  const golden = readTensors(fixture("lora-on-fp16.golden.safetensors"));
  for (const [name, adapters] of Object.entries({ pirate: WISHES[1]!, brief: WISHES[3]!, "pirate0.7+brief0.5": both }))
    await report.check(`adapters ${name} as PEFT has them`, async () => {
      const options = { cacheType: "f16" as const, context: 128, prefillChunk: 64, adapters: folders() };
      await using driver = await Driver.load(backend, model, options);
      const differences: number[] = [];
      for (const prompt of ["prompt0", "prompt1"]) {
        const wanted = floatsOf(golden.get(`${name}.${prompt}.logits_last4`));
        const ids = [...integersOf(golden.get(`${name}.${prompt}.ids`))];
        const got = await driver.logits(ids, { last: 4, adapters });
        const width = wanted.length / 4;
        differences.push(
          meanDifference(
            got,
            got.map((_, i) => wanted.subarray(i * width, (i + 1) * width)),
          ),
        );
      }
      return within(Math.max(...differences));
    });
}

/** Sequences with different adapters decode together, through captured steps. */
async function checkAdapterBatches(backend: Backend, report: Report): Promise<void> {
  await report.check("sequences with different adapters in one batch", async () => {
    const model = fixture("demo-gptq-4bit-g128-act");
    const options = { cacheType: "f16" as const, context: 256, prefillChunk: 80, maxSequences: 4, adapters: folders() };
    const prompt = Array.from({ length: 25 }, (_, i) => (i * 331 + 17) % 4096);
    await using driver = await Driver.load(backend, model, options);
    const together = async () => {
      const sequences = WISHES.map((adapters) => driver.newSequence(adapters));
      const rows: Float32Array[][] = WISHES.map(() => []);
      await driver.step(sequences.map((sequence, i) => ({ sequence, ids: prompt.slice(0, 10 + i), outputs: [] })));
      await driver.step(sequences.map((sequence, i) => ({ sequence, ids: prompt.slice(10 + i, -3), outputs: [] })));
      for (const id of prompt.slice(-3)) {
        const feeds = sequences.map((sequence) => ({
          sequence,
          ids: [id],
          outputs: [{ index: 0, logits: true, sample: greedyAt(1) }],
        }));
        for (const [i, [output]] of (await driver.step(feeds)).entries()) rows[i]!.push(output!.logits!);
      }
      for (const sequence of sequences) driver.end(sequence);
      return rows;
    };
    const [first, again] = [await together(), await together()];
    let worst = 0;
    for (const [i, adapters] of WISHES.entries()) {
      if (Buffer.compare(bits(first[i]!), bits(again[i]!)) !== 0) throw new Error(`sequence ${i} has other bits the second time`);
      worst = Math.max(worst, meanDifference(first[i]!, await driver.logits(prompt, { last: 3, adapters })));
    }
    return `${within(worst)} of alone, the same bits again`;
  });
}

function folders(): Record<string, string> {
  return Object.fromEntries(Object.entries(ADAPTERS).map(([name, folder]) => [name, fixture(folder)]));
}

function within(difference: number): string {
  if (!(difference < MEAN_BOUND))
    throw new Error(`the logits are off by ${difference} of their deviation, allowed ${MEAN_BOUND}`);
  return `logits within ${(difference * 100).toFixed(2)} %`;
}

function bits(rows: readonly Float32Array[]): Buffer {
  return Buffer.concat(rows.map(({ buffer, byteOffset, byteLength }) => Buffer.from(buffer, byteOffset, byteLength)));
}
