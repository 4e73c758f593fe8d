// Attention over the KV cache, in every type of it: each kernel against the plain reference, on shapes that pad,
// with pages out of order and rubbish behind the end of a sequence; repeats and overlapping launches bit by
// bit; what is written to a quantised cache; speed.

import {
  type AttentionLaunch,
  type AttentionShape,
  decodeLaunch,
  decodeSplits,
  type KernelCache,
  PREFILL_ROWS,
  partialLayout,
  prefillLaunch,
} from "../../src/backend/cuda/attention-launch.js";
import { ATTENTION, writeParameters } from "../../src/backend/cuda/kernel-parameters.js";
import { dequantized, headBytes, rotateHeads, scalesAt } from "./cache-contents.js";
import type { KernelBench } from "./kernel-bench.js";

const CACHES = ["f16", "q8", "q4"] as const;
const PAGE = 256;
const TOLERANCE = 3e-3;

/** Shapes of one check: what `length` tokens see whose last `rows` are asked. */
const SHAPES = [
  [4, 4, 0, 300],
  [8, 1, 0, 700],
  [6, 2, 100, 700],
  [6, 2, 20, 700],
  [36, 2, 0, 65],
  [2, 1, 0, 1],
] as const;

/** The decode launch with another number of parts. */
function decodeIn(bench: KernelBench, splits: number, shape: AttentionShape, rows: number, cache: KernelCache): AttentionLaunch {
  const call = decodeLaunch(shape, rows, cache, bench.gpu.card);
  return { ...call, grid: [splits, call.grid[1], call.grid[2]] };
}

/** Counts in `bench` what disagrees. */
export function checkAttention(bench: KernelBench): void {
  for (const cache of CACHES)
    for (const dim of [8, 16, 64, 72, 80, 96, 128, 192, 256]) for (const shape of SHAPES) checkShape(bench, cache, dim, shape);
}

function checkShape(
  bench: KernelBench,
  cache: KernelCache,
  dim: number,
  [heads, kvHeads, window, length]: (typeof SHAPES)[number],
): void {
  const { gpu } = bench;
  const [maxPages, pageCount, rows] = [3, 5, Math.min(length, 150)];
  const contents = () => randomCache(bench, cache, dim, pageCount * kvHeads, 4 * kvHeads, length > 512 ? length - 512 : PAGE);
  const [keys, values] = [contents(), contents()];
  const plain = [keys, values].map((at, i) =>
    cache === "f16" ? at : dequantized(bench, cache, at, { pieces: pageCount * kvHeads, dim, isValue: i === 1 }),
  );
  const q = bench.halves(rows * heads * dim, 1.2);
  const positions = bench.upload(Int32Array.from({ length: rows }, (_, i) => length - rows + i));
  const sequence = bench.upload(new Int32Array(rows));
  const pages = bench.upload(Int32Array.from([3, 0, 4]));
  const spans: number[] = [];
  for (let row = 0; row < rows; row += PREFILL_ROWS) spans.push(row, Math.min(PREFILL_ROWS, rows - row));
  const tiles = bench.upload(Int32Array.from(spans));
  const shape: AttentionShape = { heads, kvHeads, headDim: dim };
  const splits = 5;
  const { counters } = partialLayout(shape, rows);
  const partialBytes = rows * heads * splits * (dim + 2) * 4;
  const [y, scratch] = [gpu.allocate(rows * heads * dim * 2), gpu.allocate(counters + partialBytes)];
  const partial = scratch + BigInt(counters);
  gpu.fill(scratch, 0, counters);
  gpu.fill(partial, 0xff, partialBytes);
  const parametersOf = (kCache: bigint, vCache: bigint) =>
    writeParameters(ATTENTION, {
      q,
      kCache,
      vCache,
      y,
      partial,
      positions,
      sequence,
      pages,
      tiles,
      heads,
      kvHeads,
      dim,
      maxPages,
      window,
      splits,
      scale: Math.LOG2E / Math.sqrt(dim),
      unused: 0,
    });
  const read = () => bench.downloadHalves(y, rows * heads * dim);
  const what = `${cache} dim ${dim} heads ${heads}/${kvHeads} window ${window} length ${length}`;
  const reference = parametersOf(plain[0]!, plain[1]!);
  bench.launch({ family: "attention", name: "attention_ref", grid: [heads, rows], block: 128, parameters: reference });
  const truth = cache === "q4" ? rotateHeads(read(), dim) : read();
  const parameters = parametersOf(keys, values);
  const check = (call: AttentionLaunch) => {
    const run = () => bench.launch({ ...call, parameters });
    gpu.fill(y, 0xff, rows * heads * dim * 2);
    run();
    const first = read();
    bench.compare(`${call.name} ${what}`, first, truth, TOLERANCE);
    run();
    bench.same(`${call.name} ${what}: a repeat`, read(), first);
    const graph = bench.captured(3, run);
    gpu.fill(y, 0xff, rows * heads * dim * 2);
    gpu.launchGraph(graph);
    bench.same(`${call.name} ${what}: overlapping launches`, read(), first);
  };
  check(prefillLaunch(shape, spans.length / 2, cache));
  check(decodeIn(bench, splits, shape, rows, cache));
  bench.free(keys, values, ...(cache === "f16" ? [] : plain), q, positions, sequence, pages, tiles, y, scratch);
}

/** A cache of random contents; from `rubbish` on, the tokens of the pieces from `last` on are NaN. */
function randomCache(bench: KernelBench, cache: KernelCache, dim: number, pieces: number, last: number, rubbish: number): bigint {
  const piece = PAGE * headBytes(dim, cache);
  const pointer = bench.gpu.allocate(pieces * piece);
  const at = (index: number, bytes = 0) => pointer + BigInt(index * piece + bytes);
  if (cache === "f16") {
    bench.fillHalves(pointer, (pieces * piece) / 2, 0.6);
    for (let i = last; i < pieces; i++) bench.gpu.fill(at(i, rubbish * dim * 2), 0x7e, (PAGE - rubbish) * dim * 2);
    return pointer;
  }
  bench.fillBits(pointer, pieces * piece);
  const { offset, each } = scalesAt(dim, cache);
  for (let i = 0; i < pieces; i++) bench.fillHalves(at(i, offset), PAGE * each, cache === "q8" ? 0.006 : 0.1);
  for (let i = last; i < pieces; i++) bench.gpu.fill(at(i, offset + rubbish * each * 2), 0x7e, (PAGE - rubbish) * each * 2);
  return pointer;
}

/** Prints the speed of each kernel by itself. */
export function timeAttention(bench: KernelBench): void {
  for (const [heads, kvHeads, dim, length] of [
    [32, 32, 128, 2048],
    [32, 32, 128, 8192],
    [32, 8, 128, 2048],
    [32, 8, 128, 8192],
    [32, 32, 64, 4096],
    [32, 32, 96, 4096],
  ] as const)
    for (const cache of CACHES) timeShape(bench, cache, { heads, kvHeads, headDim: dim }, length);
}

function timeShape(bench: KernelBench, cache: KernelCache, shape: AttentionShape, length: number): void {
  const { gpu } = bench;
  const { heads, kvHeads, headDim: dim } = shape;
  const pages = length / PAGE;
  const cacheBytes = length * kvHeads * headBytes(dim, cache);
  const layers = Math.max(4, Math.ceil(200e6 / cacheBytes));
  const [kCache, vCache] = [0, 1].map(() => randomCache(bench, cache, dim, pages * kvHeads * layers, 0, PAGE)) as [
    bigint,
    bigint,
  ];
  const table = bench.upload(Int32Array.from({ length: pages }, (_, i) => i));
  const rows = 2048;
  const { counters } = partialLayout(shape, 1);
  const [q, y] = [bench.halves(rows * heads * dim), gpu.allocate(rows * heads * dim * 2)];
  const scratch = gpu.allocate(counters + heads * 64 * (dim + 2) * 4);
  gpu.fill(scratch, 0, counters);
  const [last, sequence] = [bench.upload(Int32Array.from([length - 1])), bench.upload(new Int32Array(rows))];
  const at = (layer: number, positions: bigint, tiles: bigint, splits: number) =>
    writeParameters(ATTENTION, {
      q,
      kCache: kCache + BigInt(layer * cacheBytes),
      vCache: vCache + BigInt(layer * cacheBytes),
      y,
      partial: scratch + BigInt(counters),
      positions,
      sequence,
      pages: table,
      tiles,
      heads,
      kvHeads,
      dim,
      maxPages: pages,
      window: 0,
      splits,
      scale: Math.LOG2E / Math.sqrt(dim),
      unused: 0,
    });
  const speeds = [4, 6, 8, 12, 16, 24, 32, 48]
    .filter((splits) => splits * kvHeads >= 128 && splits * kvHeads <= 800)
    .map((splits) => {
      const call = decodeIn(bench, splits, shape, 1, cache);
      const ms = bench.timedGraph(layers, (i) => bench.launch({ ...call, parameters: at(i % layers, last, 0n, splits) }));
      return `${splits === decodeSplits(shape, 1) ? "*" : ""}${splits}: ${(ms * 1e3).toFixed(1)} us ${((2 * cacheBytes) / ms / 1e6).toFixed(0)} GB/s`;
    });
  console.log(`decode ${cache} ${heads}/${kvHeads}x${dim} at ${length}, splits ${speeds.join("; ")}`);
  const positions = bench.upload(Int32Array.from({ length: rows }, (_, i) => length - rows + i));
  const spans = Array.from({ length: rows / PREFILL_ROWS }, (_, i) => [i * PREFILL_ROWS, PREFILL_ROWS]).flat();
  const tiles = bench.upload(Int32Array.from(spans));
  const call = prefillLaunch(shape, rows / PREFILL_ROWS, cache);
  const prefill = bench.timedGraph(4, (i) => bench.launch({ ...call, parameters: at(i % layers, positions, tiles, 1) }));
  const flops = 4 * heads * dim * rows * (length - rows / 2);
  console.log(
    `prefill ${cache} ${heads}/${kvHeads}x${dim}, ${rows} rows at ${length}: ${prefill.toFixed(3)} ms, ${(flops / prefill / 1e9).toFixed(0)} TFLOP/s`,
  );
  bench.free(kCache, vCache, table, q, y, scratch, last, sequence, positions, tiles);
}
