// What lies in a quantised KV cache, by its definition (kernels/kv_cells.cuh), and whether the writing
// kernels put it there.

import type { KernelCache } from "../../src/backend/cuda/attention/attention-launch.js";
import { DEQUANTIZE_KV, ROPE_KV } from "../../src/backend/cuda/attention/attention-layouts.js";
import { writeParameters } from "../../src/backend/cuda/launch/parameter-layout.js";
import type { KernelBench } from "./kernel-bench.js";

const PAGE = 256;

/** Bytes of one head's key or value of one token. */
export function headBytes(dim: number, cache: KernelCache): number {
  if (cache === "f16") return 2 * dim;
  const { offset, each } = scalesAt(dim, cache);
  return offset / PAGE + 2 * each;
}

/** Where a piece's scales begin, bytes, and how many each token has. */
export function scalesAt(dim: number, cache: "q8" | "q4"): { offset: number; each: number } {
  if (cache === "q8") return { offset: PAGE * 16 * Math.ceil(dim / 16), each: 1 };
  return { offset: PAGE * 16 * Math.ceil(dim / 32), each: Math.ceil(dim / 32) };
}

/** Dims that are rotated together: the largest power of two that divides them, 128 at most. */
function rotationBlock(dim: number): number {
  return Math.min(128, dim & -dim);
}

/** Every head of `dim` numbers turned by the Hadamard matrix of its blocks; its own inverse. */
export function rotateHeads(heads: Float32Array, dim: number): Float32Array {
  const block = rotationBlock(dim);
  const turned = Float64Array.from(heads);
  for (let from = 0; from < turned.length; from += block)
    for (let step = 1; step < block; step *= 2)
      for (let i = from; i < from + block; i++) {
        if ((i - from) & step) continue;
        const [a, b] = [turned[i]!, turned[i + step]!];
        turned[i] = a + b;
        turned[i + step] = a - b;
      }
  return Float32Array.from(turned, (value) => value / Math.sqrt(block));
}

/** A cache as fp16 [pieces][256][dim], in new memory; q4's stays rotated. */
export function dequantized(
  bench: KernelBench,
  cache: "q8" | "q4",
  from: bigint,
  { pieces, dim, isValue }: { pieces: number; dim: number; isValue: boolean },
): bigint {
  const to = bench.gpu.allocate(pieces * PAGE * dim * 2);
  const values = { from, to, pieces, dim, bits: cache === "q8" ? 8 : 4, isValue: isValue ? 1 : 0 };
  const parameters = writeParameters(DEQUANTIZE_KV, values);
  bench.launch({ family: "kv_cache", name: "dequantize_kv", grid: [PAGE, pieces], block: 256, parameters });
  return to;
}

/** A cache of random contents. */
export function randomCache(bench: KernelBench, cache: KernelCache, dim: number, pieces: number): bigint {
  const piece = PAGE * headBytes(dim, cache);
  const pointer = bench.gpu.allocate(pieces * piece);
  if (cache === "f16") {
    bench.fillHalves(pointer, (pieces * piece) / 2, 0.6);
    return pointer;
  }
  bench.fillBits(pointer, pieces * piece);
  const { offset, each } = scalesAt(dim, cache);
  for (let i = 0; i < pieces; i++)
    bench.fillHalves(pointer + BigInt(i * piece + offset), PAGE * each, cache === "q8" ? 0.006 : 0.1);
  return pointer;
}

/** Makes the tokens of a piece NaN from `token` on: nobody may read them. */
export function spoilCache(bench: KernelBench, cache: KernelCache, dim: number, at: bigint, piece: number, token: number): void {
  const begin = at + BigInt(piece * PAGE * headBytes(dim, cache));
  const { offset, each } = cache === "f16" ? { offset: 0, each: dim } : scalesAt(dim, cache);
  bench.gpu.fill(begin + BigInt(offset + token * each * 2), 0x7e, (PAGE - token) * each * 2);
}

/** The writing kernels against f16's: what they store is within half a step of it, and queries turn alike. */
export function checkCacheWriting(bench: KernelBench): void {
  for (const cache of ["q8", "q4"] as const)
    for (const dim of [8, 24, 64, 72, 80, 96, 128, 192, 256]) checkWriting(bench, cache, dim);
}

function checkWriting(bench: KernelBench, cache: "q8" | "q4", dim: number): void {
  const { gpu } = bench;
  const [heads, kvHeads, rows, maxPages, pageCount] = [18, 5, 70, 2, 3]; // more heads than a block's warps take at once
  const pieces = pageCount * kvHeads;
  const [q, k, v] = [heads, kvHeads, kvHeads].map((count) => bench.halves(rows * count * dim)) as [bigint, bigint, bigint];
  const [q2, q3] = [q, q].map((from) => {
    const copy = gpu.allocate(rows * heads * dim * 2);
    gpu.copyInside(copy, from, rows * heads * dim * 2);
    return copy;
  }) as [bigint, bigint];
  const norms = [bench.halves(dim), bench.halves(dim)];
  const angles = Array.from({ length: rows * (dim / 2) }, (_, i) => [Math.cos(i), Math.sin(i)]).flat();
  const table = bench.upload(Float32Array.from(angles));
  const positions = bench.upload(Int32Array.from({ length: rows }, (_, i) => (i === 7 ? -1 : 200 + i)));
  const sequence = bench.upload(new Int32Array(rows));
  const pages = bench.upload(Int32Array.from([2, 1]));
  const write = (type: KernelCache, queries: bigint, blocks: number) => {
    const caches = [0, 1].map(() => gpu.allocate(pieces * PAGE * headBytes(dim, type)));
    for (const each of caches) gpu.fill(each, 0, pieces * PAGE * headBytes(dim, type));
    const parameters = writeParameters(ROPE_KV, {
      q: queries,
      k,
      v,
      qNorm: norms[0]!,
      kNorm: norms[1]!,
      table,
      positions,
      sequence,
      pages,
      kCache: caches[0]!,
      vCache: caches[1]!,
      heads,
      kvHeads,
      dim,
      maxPages,
      eps: 1e-5,
      unused: 0,
    });
    bench.launch({ family: "kv_cache", name: `rope_kv_${type}`, grid: [blocks, rows], block: 256, parameters });
    return caches;
  };
  const plain = write("f16", q, Math.ceil((heads + 2 * kvHeads) / 8));
  const codes = write(cache, q2, 1);
  const what = `rope_kv_${cache} dim ${dim}`;
  const turned = (values: Float32Array) => (cache === "q4" ? rotateHeads(values, dim) : values);
  const wantedQ = turned(bench.downloadHalves(q, rows * heads * dim));
  const gotQ = bench.downloadHalves(q2, rows * heads * dim);
  const whole = write("f16", q3, 1);
  for (const [part, [one, other, count]] of Object.entries({
    queries: [q, q3, rows * heads * dim],
    keys: [plain[0]!, whole[0]!, pieces * PAGE * dim],
    values: [plain[1]!, whole[1]!, pieces * PAGE * dim],
  } as const))
    bench.same(
      `rope_kv_f16 dim ${dim}, a block per token: ${part}`,
      bench.downloadHalves(other, count),
      bench.downloadHalves(one, count),
    );
  // Row 7 is idle: nobody may touch it.
  const idle = (i: number) => Math.floor(i / (heads * dim)) === 7;
  const before = bench.downloadHalves(q, rows * heads * dim);
  bench.compare(
    `${what} queries`,
    gotQ,
    wantedQ.map((value, i) => (idle(i) ? before[i]! : value)),
    1.5e-2,
  );
  plain.forEach((at, i) => {
    const wanted = turned(bench.downloadHalves(at, pieces * PAGE * dim));
    const expanded = dequantized(bench, cache, codes[i]!, { pieces, dim, isValue: i === 1 });
    const got = bench.downloadHalves(expanded, pieces * PAGE * dim);
    // Errors in units of what half a step may be: of the largest number of a head, or of a group of 32.
    const group = cache === "q8" ? dim : Math.min(dim, 32);
    const errors = new Float32Array(got.length);
    for (let head = 0; head < got.length; head += dim)
      for (let from = head; from < head + dim; from += group) {
        const end = Math.min(from + group, head + dim);
        const largest = wanted.subarray(from, end).reduce((most, value) => Math.max(most, Math.abs(value)), 0);
        // q8: half a step. q4's steps may leave the largest number outside for the sake of the others.
        const allowed = cache === "q8" ? largest / 254 : largest / 5;
        for (let d = from; d < end; d++) errors[d] = Math.abs(got[d]! - wanted[d]!) / (allowed * 1.01 + 1e-3 * largest + 1e-9);
      }
    bench.compare(`${what} ${i === 0 ? "keys" : "values"}`, errors, new Float32Array(errors.length), 1);
    const mean = errors.reduce((sum, error) => sum + error, 0) / errors.filter((_, d) => wanted[d] !== 0).length;
    if (!(mean < 0.6)) bench.fail(`${what} ${i === 0 ? "keys" : "values"}: errors of ${mean} of the allowed on average`);
    bench.free(expanded);
  });
  bench.free(...plain, ...codes, ...whole, q, k, v, q2, q3, ...norms, table, positions, sequence, pages);
}
