// How fast attention is, each kernel by itself: decode steps of one and of many sequences at several lengths, prompts.

import {
  type AttentionShape,
  decodeLaunch,
  type KernelCache,
  PREFILL_ROWS,
  partialLayout,
  prefillLaunch,
  prefillParameters,
} from "../../src/backend/cuda/attention/attention-launch.js";
import { ATTENTION_STEP } from "../../src/backend/cuda/attention/attention-layouts.js";
import { writeParameters } from "../../src/backend/cuda/launch/parameter-layout.js";
import { headBytes, randomCache } from "./cache-contents.js";
import type { KernelBench } from "./kernel-bench.js";

const PAGE = 256;
const CACHES = ["f16", "q8", "q4"] as const;
const SHAPES: Record<string, AttentionShape> = {
  "7B": { heads: 32, kvHeads: 32, headDim: 128 },
  "13B": { heads: 40, kvHeads: 40, headDim: 128 },
  "Llama-3-8B": { heads: 32, kvHeads: 8, headDim: 128 },
  "70B": { heads: 64, kvHeads: 8, headDim: 128 },
};
/** What is read must not be in L2: layers enough for this much. */
const ROTATED_BYTES = 200e6;

/** Prints the speed of each kernel by itself. */
export function timeAttention(bench: KernelBench): void {
  for (const [name, shape] of Object.entries(SHAPES))
    for (const cache of CACHES) {
      if (name !== "7B" && cache === "q4") continue;
      const times = [1, 60, 250, 500, 1000, 1920, 8192].map(
        (length) => `${length}: ${decodeTime(bench, cache, shape, 1, length)}`,
      );
      console.log(`decode ${name} ${cache}, us at ${times.join(", ")}`);
    }
  for (const [rows, length] of [
    [8, 250],
    [32, 250],
    [128, 250],
    [32, 1000],
  ] as const) {
    const times = (["7B", "Llama-3-8B"] as const).flatMap((name) =>
      CACHES.map((cache) => `${name} ${cache} ${decodeTime(bench, cache, SHAPES[name]!, rows, length)}`),
    );
    console.log(`decode ${rows} x ${length}, us: ${times.join(", ")}`);
  }
  for (const length of [2048, 8192]) {
    const rates = CACHES.map((cache) => `${cache} ${promptRate(bench, cache, SHAPES["7B"]!, length)}`);
    console.log(`prompt of 2048 at ${length}, TFLOP/s: ${rates.join(", ")}`);
  }
}

/** Microseconds of a launch and its rate. */
function decodeTime(bench: KernelBench, cache: KernelCache, shape: AttentionShape, rows: number, length: number): string {
  const { gpu } = bench;
  const { heads, kvHeads, headDim: dim } = shape;
  const width = Math.ceil(length / PAGE);
  const layerBytes = rows * width * PAGE * kvHeads * headBytes(dim, cache);
  const layers = Math.min(64, Math.max(4, Math.ceil(ROTATED_BYTES / layerBytes)));
  const caches = [0, 1].map(() => randomCache(bench, cache, dim, rows * width * kvHeads * layers));
  const { counters, bytes } = partialLayout(shape, rows);
  const [q, k, v] = [heads, kvHeads, kvHeads].map((count) => bench.halves(rows * count * dim)) as [bigint, bigint, bigint];
  const table = bench.upload(new Float32Array(rows * dim).fill(0.5));
  const scratch = gpu.allocate(bytes);
  gpu.fill(scratch, 0, counters);
  const y = gpu.allocate(rows * heads * dim * 2);
  const pages = bench.upload(Int32Array.from({ length: rows * width }, (_, i) => i));
  const positions = bench.upload(new Int32Array(rows).fill(length - 1));
  const call = decodeLaunch(shape, rows, cache, gpu.card);
  const ms = bench.timedGraph(layers, (layer) => {
    const [kCache, vCache] = caches.map((at) => at + BigInt(layer * layerBytes)) as [bigint, bigint];
    const parameters = writeParameters(ATTENTION_STEP, {
      ...{ q, k, v, qNorm: 0n, kNorm: 0n, table, kCache, vCache, y, partial: scratch + BigInt(counters), positions, pages },
      ...{ heads, kvHeads, group: heads / kvHeads, dim, maxPages: width, window: 0, splits: call.splits, least: call.least },
      ...{ scale: Math.LOG2E / Math.sqrt(dim), eps: 0, ordered: 0, unused: 0 },
    });
    bench.launch({ ...call, parameters });
  });
  bench.free(...caches, q, k, v, table, scratch, y, pages, positions);
  const read = 2 * rows * length * kvHeads * headBytes(dim, cache);
  return `${(ms * 1e3).toFixed(1)}${read > 4e6 ? ` (${(read / ms / 1e9).toFixed(2)} TB/s)` : ""}`;
}

/** TFLOP/s of 2048 rows that end at `length`. */
function promptRate(bench: KernelBench, cache: KernelCache, shape: AttentionShape, length: number): string {
  const { gpu } = bench;
  const { heads, kvHeads, headDim: dim } = shape;
  const [rows, width] = [2048, length / PAGE];
  const [kCache, vCache] = [0, 1].map(() => randomCache(bench, cache, dim, width * kvHeads)) as [bigint, bigint];
  const [q, y] = [bench.halves(rows * heads * dim), gpu.allocate(rows * heads * dim * 2)];
  const pages = bench.upload(Int32Array.from({ length: width }, (_, i) => i));
  const positions = bench.upload(Int32Array.from({ length: rows }, (_, i) => length - rows + i));
  const sequence = bench.upload(new Int32Array(rows));
  const spans = Array.from({ length: rows / PREFILL_ROWS }, (_, i) => [i * PREFILL_ROWS, PREFILL_ROWS]).flat();
  const tiles = bench.upload(Int32Array.from(spans));
  const call = prefillLaunch(shape, rows / PREFILL_ROWS, cache, gpu.card);
  const parameters = prefillParameters(call, {
    ...{ q, kCache, vCache, y, positions, sequence, pages, tiles },
    ...{ heads, kvHeads, dim, maxPages: width, window: 0, scale: Math.LOG2E / Math.sqrt(dim) },
  });
  const ms = bench.timedGraph(4, () => bench.launch({ ...call, parameters }));
  bench.free(kCache, vCache, q, y, pages, positions, sequence, tiles);
  return ((4 * heads * dim * rows * (length - rows / 2)) / ms / 1e9).toFixed(0);
}
