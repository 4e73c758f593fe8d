// Attention over the KV cache: every kernel against the plain reference, on shapes that pad, with pages out of
// order and rubbish behind the end of a sequence; repeats and overlapping launches bit by bit; speed.

import {
  type AttentionLaunch,
  type AttentionShape,
  decodeLaunch,
  decodeSplits,
  PREFILL_ROWS,
  partialLayout,
  prefillLaunch,
} from "../../src/backend/cuda/attention-launch.js";
import { ATTENTION, writeParameters } from "../../src/backend/cuda/kernel-parameters.js";
import type { KernelBench } from "./kernel-bench.js";

function runAttention(bench: KernelBench, call: AttentionLaunch, parameters: Uint8Array): void {
  const grid: [number, number, number] = [...call.grid];
  bench.launch({ family: "attention", name: call.name, grid, block: call.block, shared: call.shared, parameters });
}

/** The decode launch with another number of parts. */
function decodeIn(splits: number, shape: AttentionShape, rows: number): AttentionLaunch {
  const call = decodeLaunch(shape, rows);
  return { ...call, grid: [splits, call.grid[1], call.grid[2]] };
}

/** Counts in `bench` what disagrees. */
export function checkAttention(bench: KernelBench): void {
  const { gpu } = bench;
  for (const dim of [8, 16, 64, 72, 80, 96, 128, 192, 256])
    for (const [heads, kvHeads, window, length] of [
      [4, 4, 0, 300],
      [8, 1, 0, 700],
      [6, 2, 100, 700],
      [6, 2, 20, 700],
      [36, 2, 0, 65],
      [2, 1, 0, 1],
    ] as const) {
      const [maxPages, pageCount, rows] = [3, 5, Math.min(length, 150)];
      const cacheSize = pageCount * kvHeads * 256 * dim;
      const cache = () => {
        const pointer = bench.halves(cacheSize, 0.6);
        // What lies behind the end of a sequence must not matter, whatever it is: NaN here.
        for (let head = 0; length > 512 && head < kvHeads; head++)
          gpu.fill(
            pointer + BigInt((4 * kvHeads + head) * 256 * dim * 2 + (length - 512) * dim * 2),
            0x7e,
            (768 - length) * dim * 2,
          );
        return pointer;
      };
      const [kCache, vCache] = [cache(), cache()];
      const q = bench.halves(rows * heads * dim, 1.2);
      const positions = bench.upload(Int32Array.from({ length: rows }, (_, i) => length - rows + i));
      const sequence = bench.upload(new Int32Array(rows));
      const pages = bench.upload(Int32Array.from([3, 0, 4]));
      const tiles: number[] = [];
      for (let row = 0; row < rows; row += PREFILL_ROWS) tiles.push(row, Math.min(PREFILL_ROWS, rows - row));
      const tilesIn = bench.upload(Int32Array.from(tiles));
      const shape: AttentionShape = { heads, kvHeads, headDim: dim };
      const splits = 5;
      const { counters } = partialLayout(shape, rows);
      const partialBytes = rows * heads * splits * (dim + 2) * 4;
      const [y, scratch] = [gpu.allocate(rows * heads * dim * 2), gpu.allocate(counters + partialBytes)];
      const partial = scratch + BigInt(counters);
      gpu.fill(scratch, 0, counters);
      gpu.fill(partial, 0xff, partialBytes);
      const parameters = writeParameters(ATTENTION, {
        q,
        kCache,
        vCache,
        y,
        partial,
        positions,
        sequence,
        pages,
        tiles: tilesIn,
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
      const what = `dim ${dim} heads ${heads}/${kvHeads} window ${window} length ${length}`;
      bench.launch({ family: "attention", name: "attention_ref", grid: [heads, rows], block: 128, parameters });
      const truth = Float64Array.from(read());
      const check = (name: string, run: () => void) => {
        gpu.fill(y, 0xff, rows * heads * dim * 2);
        run();
        const first = read();
        bench.compare(`attention ${name} ${what}`, first, truth, 3e-3);
        run();
        if (read().some((value, i) => value !== first[i])) bench.fail(`attention ${name} ${what}: a repeat gave other bits`);
        const graph = bench.captured(3, run);
        gpu.fill(y, 0xff, rows * heads * dim * 2);
        gpu.launchGraph(graph);
        if (read().some((value, i) => value !== first[i]))
          bench.fail(`attention ${name} ${what}: overlapping launches gave other bits`);
      };
      check("prefill", () => runAttention(bench, prefillLaunch(shape, tiles.length / 2), parameters));
      check("decode", () => runAttention(bench, decodeIn(splits, shape, rows), parameters));
      bench.free(kCache, vCache, q, positions, sequence, pages, tilesIn, y, scratch);
    }
}

/** Prints the speed of each kernel by itself. */
export function timeAttention(bench: KernelBench): void {
  const { gpu } = bench;
  for (const [heads, kvHeads, dim, length] of [
    [32, 32, 128, 2048],
    [32, 32, 128, 8192],
    [32, 8, 128, 2048],
    [32, 8, 128, 8192],
    [32, 32, 64, 4096],
    [32, 32, 80, 4096],
    [32, 32, 96, 4096],
  ] as const) {
    const pages = length / 256;
    const cacheBytes = pages * kvHeads * 256 * dim * 2;
    const layers = Math.max(4, Math.ceil(200e6 / cacheBytes));
    const [kCache, vCache] = [gpu.allocate(cacheBytes * layers), gpu.allocate(cacheBytes * layers)];
    bench.fillHalves(kCache, (cacheBytes * layers) / 2);
    bench.fillHalves(vCache, (cacheBytes * layers) / 2);
    const table = bench.upload(Int32Array.from({ length: pages }, (_, i) => i));
    const rows = 2048;
    const shape: AttentionShape = { heads, kvHeads, headDim: dim };
    const { counters } = partialLayout(shape, 1);
    const [q, y, scratch] = [
      gpu.allocate(rows * heads * dim * 2),
      gpu.allocate(rows * heads * dim * 2),
      gpu.allocate(counters + heads * 64 * (dim + 2) * 4),
    ];
    const partial = scratch + BigInt(counters);
    gpu.fill(scratch, 0, counters);
    bench.fillHalves(q, rows * heads * dim, 1);
    const [last, sequence] = [bench.upload(Int32Array.from([length - 1])), bench.upload(new Int32Array(rows))];
    const at = (layer: number, positions: bigint, tiles: bigint, splits: number) =>
      writeParameters(ATTENTION, {
        q,
        kCache: kCache + BigInt(layer * cacheBytes),
        vCache: vCache + BigInt(layer * cacheBytes),
        y,
        partial,
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
        const ms = bench.timedGraph(layers, (i) => runAttention(bench, decodeIn(splits, shape, 1), at(i, last, 0n, splits)));
        return `${splits === decodeSplits(shape, 1) ? "*" : ""}${splits}: ${(ms * 1e3).toFixed(1)} us ${((2 * cacheBytes) / ms / 1e6).toFixed(0)} GB/s`;
      });
    console.log(`decode ${heads}/${kvHeads}x${dim} at ${length}, splits ${speeds.join("; ")}`);
    const positions = bench.upload(Int32Array.from({ length: rows }, (_, i) => length - rows + i));
    const spans = Array.from({ length: rows / PREFILL_ROWS }, (_, i) => [i * PREFILL_ROWS, PREFILL_ROWS]).flat();
    const tiles = bench.upload(Int32Array.from(spans));
    const call = prefillLaunch(shape, rows / PREFILL_ROWS);
    const prefill = bench.timedGraph(4, (i) => runAttention(bench, call, at(i % layers, positions, tiles, 1)));
    const flops = 4 * heads * dim * rows * (length - rows / 2);
    console.log(
      `prefill ${heads}/${kvHeads}x${dim}, ${rows} rows at ${length}: ${prefill.toFixed(3)} ms, ${(flops / prefill / 1e9).toFixed(0)} TFLOP/s`,
    );
    bench.free(kCache, vCache, table, q, y, scratch, last, sequence, positions, tiles);
  }
}
