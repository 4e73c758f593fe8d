// Attention of prompts over the KV cache, in every type of it: each kernel against the plain reference, on shapes that
// pad, with pages out of order and rubbish behind the end of a sequence; repeats and overlapping launches bit by
// bit. Decode steps: attention-step-checks.ts.

import {
  type AttentionShape,
  type KernelCache,
  PREFILL_ROWS,
  prefillLaunch,
  prefillParameters,
} from "../../src/backend/cuda/attention/attention-launch.js";
import { ATTENTION } from "../../src/backend/cuda/attention/attention-layouts.js";
import { writeParameters } from "../../src/backend/cuda/launch/parameter-layout.js";
import { dequantized, randomCache, rotateHeads, spoilCache } from "./cache-contents.js";
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
  const contents = () => {
    const at = randomCache(bench, cache, dim, pageCount * kvHeads);
    for (let head = 0; head < kvHeads; head++)
      spoilCache(bench, cache, dim, at, 4 * kvHeads + head, length > 512 ? length - 512 : PAGE);
    return at;
  };
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
  const y = gpu.allocate(rows * heads * dim * 2);
  const valuesOf = (kCache: bigint, vCache: bigint) => ({
    ...{ q, kCache, vCache, y, positions, sequence, pages, tiles },
    ...{ heads, kvHeads, dim, maxPages, window, scale: Math.LOG2E / Math.sqrt(dim) },
  });
  const read = () => bench.downloadHalves(y, rows * heads * dim);
  const what = `${cache} dim ${dim} heads ${heads}/${kvHeads} window ${window} length ${length}`;
  const reference = writeParameters(ATTENTION, valuesOf(plain[0]!, plain[1]!));
  bench.launch({ family: "attention", name: "attention_ref", grid: [heads, rows], block: 128, parameters: reference });
  const truth = cache === "q4" ? rotateHeads(read(), dim) : read();
  const older = { ...gpu.card, major: 8, minor: 0 };
  const calls = [gpu.card, older].map((card) => prefillLaunch(shape, spans.length / 2, cache, card));
  for (const call of calls[0]!.name === calls[1]!.name ? [calls[0]!] : calls) {
    const parameters = prefillParameters(call, valuesOf(keys, values));
    const run = (blocks?: number) => bench.launch({ ...call, grid: blocks ? [blocks, 1, 1] : call.grid, parameters });
    gpu.fill(y, 0xff, rows * heads * dim * 2);
    run();
    const first = read();
    bench.compare(`${call.name} ${what}`, first, truth, TOLERANCE);
    run();
    bench.same(`${call.name} ${what}: a repeat`, read(), first);
    if (call.tiles !== null)
      for (const blocks of [1, 3]) {
        gpu.fill(y, 0xff, rows * heads * dim * 2);
        run(blocks);
        bench.same(`${call.name} ${what}: ${blocks} blocks`, read(), first);
      }
    const graph = bench.captured(3, () => run());
    gpu.fill(y, 0xff, rows * heads * dim * 2);
    gpu.launchGraph(graph);
    bench.same(`${call.name} ${what}: overlapping launches`, read(), first);
  }
  bench.free(keys, values, ...(cache === "f16" ? [] : plain), q, positions, sequence, pages, tiles, y);
}
