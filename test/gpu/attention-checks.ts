// Attention over the KV cache, in every type of it: each kernel against the plain reference, on shapes that pad,
// with pages out of order and rubbish behind the end of a sequence; repeats and overlapping launches bit by
// bit.

import {
  type AttentionLaunch,
  type AttentionShape,
  decodeLaunch,
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
export function randomCache(
  bench: KernelBench,
  cache: KernelCache,
  dim: number,
  pieces: number,
  last: number,
  rubbish: number,
): bigint {
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
