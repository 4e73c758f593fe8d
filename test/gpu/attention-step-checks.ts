// Attention of decode steps: sequences of several lengths, each with pages of its own, whose newest key and value the kernel
// writes itself. Held against rope_kv and the plain reference over what that has written: results, and every byte of the
// cache. Nothing behind the end of a sequence may be read, the newest place included, before it is written.

import {
  type AttentionShape,
  type DecodeLaunch,
  decodeLaunch,
  type KernelCache,
  partialLayout,
} from "../../src/backend/cuda/attention/attention-launch.js";
import { ATTENTION, ATTENTION_STEP, ROPE_KV } from "../../src/backend/cuda/attention/attention-layouts.js";
import { writeParameters } from "../../src/backend/cuda/launch/parameter-layout.js";
import { dequantized, headBytes, randomCache, rotateHeads, spoilCache } from "./cache-contents.js";
import { codeOrder } from "./code-order.js";
import type { KernelBench } from "./kernel-bench.js";

const CACHES = ["f16", "q8", "q4"] as const;
const PAGE = 256;
const TOLERANCE = 3e-3;

/** Tokens of each sequence with the newest one; 0: an idle row. */
const LENGTHS = [1, 17, 64, 0, 130, 257, 700];
const MAX_PAGES = 3;

const SHAPES = [
  { heads: 4, kvHeads: 4, window: 0 },
  { heads: 8, kvHeads: 1, window: 0 },
  { heads: 6, kvHeads: 2, window: 100 },
  { heads: 6, kvHeads: 2, window: 20 },
  { heads: 36, kvHeads: 2, window: 0 },
];

/** Blocks that share a token's keys, keys of a part at least. */
const CUTS = [
  { splits: 1, least: 128 },
  { splits: 6, least: 64 },
  { splits: 16, least: 64 },
];

/** Counts in `bench` what disagrees. */
export function checkAttentionSteps(bench: KernelBench): void {
  for (const cache of CACHES)
    for (const [i, dim] of [8, 16, 64, 72, 80, 96, 128, 192, 256].entries())
      for (const shape of SHAPES) checkStep(bench, cache, { ...shape, headDim: dim }, i % 2 === 0);
}

function checkStep(bench: KernelBench, cache: KernelCache, shape: AttentionShape & { window: number }, norms: boolean): void {
  const { gpu } = bench;
  const { heads, kvHeads, headDim: dim, window } = shape;
  const rows = LENGTHS.length;
  const widths = LENGTHS.map((length) => Math.ceil(length / PAGE));
  const pageCount = widths.reduce((sum, width) => sum + width, 0);
  // From the last page to the first.
  const table = new Int32Array(rows * MAX_PAGES);
  let next = pageCount;
  widths.forEach((width, row) => {
    for (let i = 0; i < width; i++) table[row * MAX_PAGES + i] = --next;
  });
  const pieces = pageCount * kvHeads;
  const bytes = pieces * PAGE * headBytes(dim, cache);
  const caches = [0, 1].map(() => {
    const at = randomCache(bench, cache, dim, pieces);
    LENGTHS.forEach((length, row) => {
      const last = table[row * MAX_PAGES + widths[row]! - 1]!;
      for (let head = 0; length > 0 && head < kvHeads; head++)
        spoilCache(bench, cache, dim, at, last * kvHeads + head, (length - 1) % PAGE);
    });
    return at;
  });
  const written = caches.map((from) => {
    const to = gpu.allocate(bytes);
    gpu.copyInside(to, from, bytes);
    return to;
  });
  const [q, k, v] = [heads, kvHeads, kvHeads].map((count) => bench.halves(rows * count * dim, 1.2)) as [bigint, bigint, bigint];
  const turned = gpu.allocate(rows * heads * dim * 2);
  gpu.copyInside(turned, q, rows * heads * dim * 2);
  const [qNorm, kNorm] = norms ? [bench.halves(dim), bench.halves(dim)] : [0n, 0n];
  const angles = bench.upload(Float32Array.from({ length: rows * dim }, (_, i) => (i % 2 === 0 ? Math.cos(i) : Math.sin(i - 1))));
  const positions = bench.upload(Int32Array.from(LENGTHS, (length) => length - 1));
  const sequence = bench.upload(Int32Array.from({ length: rows }, (_, i) => i));
  const pages = bench.upload(table);
  const y = gpu.allocate(rows * heads * dim * 2);
  const shared = { q, k, v, qNorm, kNorm, positions, pages, heads, kvHeads, dim, maxPages: MAX_PAGES };

  bench.launch({
    ...{ family: "kv_cache", name: `rope_kv_${cache}`, grid: [Math.ceil((heads + 2 * kvHeads) / 8), rows], block: 256 },
    parameters: writeParameters(ROPE_KV, {
      ...{ ...shared, sequence, q: turned, table: angles, kCache: written[0]!, vCache: written[1]!, eps: 1e-5, unused: 0 },
    }),
  });
  const plain = written.map((at, i) => (cache === "f16" ? at : dequantized(bench, cache, at, { pieces, dim, isValue: i === 1 })));
  const scale = Math.LOG2E / Math.sqrt(dim);
  bench.launch({
    ...{ family: "attention", name: "attention_ref", grid: [heads, rows], block: 128 },
    parameters: writeParameters(ATTENTION, {
      ...{ q: turned, kCache: plain[0]!, vCache: plain[1]!, y, positions, sequence, pages, tiles: 0n },
      ...{ heads, kvHeads, dim, maxPages: MAX_PAGES, window, scale },
    }),
  });
  const idle = (i: number) => LENGTHS[Math.floor(i / (heads * dim))] === 0;
  const read = () => bench.downloadHalves(y, rows * heads * dim).map((value, i) => (idle(i) ? 0 : value));
  const truth = cache === "q4" ? rotateHeads(read(), dim) : read();

  const chosen = decodeLaunch(shape, rows, cache, gpu.card);
  const { counters } = partialLayout(shape, rows);
  const partialBytes = rows * heads * 32 * (dim + 2) * 4;
  const scratch = gpu.allocate(counters + partialBytes);
  gpu.fill(scratch, 0, counters);
  const check = (call: DecodeLaunch, ordered: 0 | 1 = 0) => {
    const { splits, least } = call;
    const parameters = writeParameters(ATTENTION_STEP, {
      ...{ ...shared, table: angles, kCache: caches[0]!, vCache: caches[1]!, y, partial: scratch + BigInt(counters) },
      ...{ group: heads / kvHeads, window, splits, least, scale, eps: 1e-5, ordered, unused: 0 },
    });
    const run = () => bench.launch({ ...call, parameters });
    const what = `${call.name} dim ${dim} heads ${heads}/${kvHeads} window ${window} in ${splits}`;
    gpu.fill(scratch + BigInt(counters), 0xff, partialBytes);
    gpu.fill(y, 0xff, rows * heads * dim * 2);
    run();
    const first = read();
    if (ordered) {
      const values = first.map((_, i) => first[codeOrder(i)]!);
      bench.compare(`${what}, in the order of codes`, values, truth, TOLERANCE);
      return;
    }
    bench.compare(what, first, truth, TOLERANCE);
    run();
    bench.same(`${what}: a repeat`, read(), first);
    const graph = bench.captured(3, run);
    gpu.fill(y, 0xff, rows * heads * dim * 2);
    gpu.launchGraph(graph);
    bench.same(`${what}: overlapping launches`, read(), first);
    gpu.destroyGraph(graph);
  };
  check(chosen);
  if (dim % 32 === 0) check(chosen, 1);
  caches.forEach((at, i) => {
    const [got, wanted] = [at, written[i]!].map((from) => Buffer.from(bench.download(from, bytes / 4).buffer));
    if (!got!.equals(wanted!))
      bench.fail(`${chosen.name} dim ${dim} heads ${heads}/${kvHeads}: another ${i === 0 ? "key" : "value"} cache`);
  });
  for (const cut of CUTS) {
    check({ ...chosen, ...cut, grid: [cut.splits, chosen.grid[1], chosen.grid[2]] });
  }
  bench.free(...caches, ...written, ...(cache === "f16" ? [] : plain), q, k, v, turned, qNorm, kNorm);
  bench.free(angles, positions, sequence, pages, y, scratch);
}
