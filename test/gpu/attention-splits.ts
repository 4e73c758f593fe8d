// Into how many parts a decode step's attention is best cut: times of one launch over many sequences, for numbers of rows, lengths
// and parts. `[ ]` is what decodeSplits() chooses, `*` the fastest. `least`: the same where only long rows are cut.
// Runs on a machine with a GPU: `node dist/gpu/attention-splits.js [apart] [few] [least] [overlapping] [idle]`.

import {
  type AttentionShape,
  type DecodeLaunch,
  decodeLaunch,
  type KernelCache,
} from "../../src/backend/cuda/attention/attention-launch.js";
import { ATTENTION_STEP } from "../../src/backend/cuda/attention/attention-layouts.js";
import type { DeviceContext } from "../../src/backend/cuda/cards/device-context.js";
import { writeParameters } from "../../src/backend/cuda/launch/parameter-layout.js";
import { headBytes, randomCache } from "./cache-contents.js";
import { KernelBench } from "./kernel-bench.js";
import { runSections } from "./run-sections.js";

const PAGE = 256;
const CASES = [
  ["7B", "f16", { heads: 32, kvHeads: 32, headDim: 128 }],
  ["8B", "f16", { heads: 32, kvHeads: 8, headDim: 128 }],
  ["7B", "q8", { heads: 32, kvHeads: 32, headDim: 128 }],
] as const satisfies readonly (readonly [string, KernelCache, AttentionShape])[];
const ROWS = [9, 12, 16, 24, 33, 48, 65, 96, 129, 144, 160, 192, 224, 256];
const FEW_ROWS = [2, 3, 4, 5, 6, 7, 8];
const SPLITS = [1, 2, 3, 4, 6, 8];
/** Parts at most and keys of a part at least, where short rows stay whole. */
const CUTS = [
  { splits: 1, least: 512 },
  { splits: 4, least: 512 },
  { splits: 4, least: 1024 },
  { splits: 8, least: 512 },
  { splits: 8, least: 1024 },
];
const CUT_ROWS = [9, 12, 24, 48, 96, 160, 256];
/** More than any rule would choose. */
const MOST_SPLITS = 32;
/** Tokens that a cache has room for: 256 rows of the mixed lengths. */
const TOKENS = 300_000;
/** Blocks of a launch that still gains from more parts: six times what a card runs at once. */
const MOST_BLOCKS = 1600;
/** Microseconds that a captured graph is to take, and most launches of it. */
const GRAPH_US = 1200;
const MOST_LAUNCHES = 64;
/** Bytes that a launch reads in a microsecond, about. */
const USUAL_RATE = 4e6;

/** Lengths of `rows` sequences, by what stands above the column. */
const LENGTHS: Readonly<Record<string, (row: number) => number>> = {
  256: () => 256,
  1024: () => 1024,
  4096: () => 4096,
  // From 64 to 4096, as many in each octave.
  mixed: (row) => Math.floor(64 * 2 ** (6 * ((row * 0.6180339887) % 1))),
};

class SplitTimes {
  readonly failures = 0;
  readonly #bench: KernelBench;

  constructor(gpu: DeviceContext) {
    this.#bench = new KernelBench(gpu);
  }

  /** @param overlap whether a launch may begin before the one ahead has ended */
  table(overlap: boolean, allRows = ROWS): void {
    console.log(`us in ${SPLITS.join(", ")} parts${overlap ? ", launches overlap" : ""}`);
    for (const [name, cache, shape] of CASES) {
      const step = new TimedStep(this.#bench, shape, cache, overlap);
      for (const rows of allRows) {
        printRow(`${name} ${cache} ${rows}`, step, rows, (lengths) => marked(rows * shape.kvHeads, step, lengths));
      }
      step.free();
    }
  }

  /** What is gained if only rows of many keys are cut, whatever the number of rows. */
  least(): void {
    console.log(`us with ${CUTS.map(({ splits, least }) => `${splits} of ${least}`).join(", ")} keys at least`);
    for (const [name, cache, shape] of CASES) {
      const step = new TimedStep(this.#bench, shape, cache, false);
      for (const rows of CUT_ROWS) {
        printRow(`${name} ${cache} ${rows}`, step, rows, (lengths) =>
          CUTS.map((cut) => figure(step.time(lengths, cut))).join(" "),
        );
      }
      step.free();
    }
  }

  /** What parts cost that have no keys. */
  idle(): void {
    for (const [name, cache, shape] of CASES) {
      const step = new TimedStep(this.#bench, shape, cache, false);
      const times = [16, 64, 256].map((rows) => {
        const lengths = Array.from({ length: rows }, () => 256);
        const each = [1, 2, 4].map((splits) => step.time(lengths, { splits, least: 512 }).toFixed(1));
        return `${rows} rows ${each.join(" ")}`;
      });
      console.log(`${name} ${cache} 256 keys in 1 part, us of 1, 2, 4 blocks: ${times.join(" | ")}`);
      step.free();
    }
  }
}

/** Prints what `cell` says of `rows` sequences for each kind of lengths that there is memory for. */
function printRow(title: string, step: TimedStep, rows: number, cell: (lengths: readonly number[]) => string): void {
  const columns = Object.entries(LENGTHS).flatMap(([column, length]) => {
    const lengths = Array.from({ length: rows }, (_, row) => length(row));
    return step.holds(lengths) ? [`${column}: ${cell(lengths)}`] : [];
  });
  console.log(`${title} | ${columns.join(" | ")}`);
}

const figure = (us: number): string => (us < 100 ? us.toFixed(1) : us.toFixed(0));

/** Times of one cell: every sensible number of parts, and what the rule chooses with its number where it is another. */
function marked(blocks: number, step: TimedStep, lengths: readonly number[]): string {
  const { splits: chosen, least } = step.chosen(lengths.length);
  const sensible = SPLITS.filter((splits) => splits <= 2 || blocks * splits <= MOST_BLOCKS);
  const tried = sensible.includes(chosen) ? sensible : [...sensible, chosen];
  const times = tried.map((splits) => step.time(lengths, { splits, least }));
  const best = Math.min(...times);
  const cells = times.map((us, i) => {
    const named = i < sensible.length ? figure(us) : `${chosen} parts: ${figure(us)}`;
    return `${tried[i] === chosen ? `[${named}]` : named}${us === best ? "*" : ""}`;
  });
  return cells.join(" ");
}

/** Buffers for launches over up to TOKENS tokens. */
class TimedStep {
  readonly #bench: KernelBench;
  readonly #shape: AttentionShape;
  readonly #cache: KernelCache;
  readonly #overlap: boolean;
  readonly #caches: readonly [bigint, bigint];
  readonly #memory: Readonly<Record<"q" | "k" | "v" | "table" | "y" | "scratch", bigint>>;
  readonly #counters: number;

  constructor(bench: KernelBench, shape: AttentionShape, cache: KernelCache, overlap: boolean) {
    const { gpu } = bench;
    const { heads, kvHeads, headDim: dim } = shape;
    [this.#bench, this.#shape, this.#cache, this.#overlap] = [bench, shape, cache, overlap];
    const rows = Math.max(...ROWS);
    const pieces = Math.ceil(TOKENS / PAGE) * kvHeads;
    this.#caches = [randomCache(bench, cache, dim, pieces), randomCache(bench, cache, dim, pieces)];
    this.#counters = rows * heads * 4;
    const partial = rows * MOST_SPLITS * heads * (dim + 2) * 4;
    this.#memory = {
      q: bench.halves(rows * heads * dim),
      k: bench.halves(rows * kvHeads * dim),
      v: bench.halves(rows * kvHeads * dim),
      table: bench.upload(new Float32Array(rows * dim).fill(0.5)),
      y: gpu.allocate(rows * heads * dim * 2),
      scratch: gpu.allocate(this.#counters + partial),
    };
    gpu.fill(this.#memory.scratch, 0, this.#counters);
  }

  chosen(rows: number): DecodeLaunch {
    return decodeLaunch(this.#shape, rows, this.#cache, this.#bench.gpu.card);
  }

  holds(lengths: readonly number[]): boolean {
    return pagesOf(lengths) * PAGE <= TOKENS;
  }

  /** Microseconds of a launch whose keys are not in L2. */
  time(lengths: readonly number[], cut: { readonly splits: number; readonly least: number }): number {
    const bench = this.#bench;
    const { heads, kvHeads, headDim: dim } = this.#shape;
    const { q, k, v, table, y, scratch } = this.#memory;
    const rows = lengths.length;
    const launch = this.chosen(rows);
    const pageBytes = PAGE * kvHeads * headBytes(dim, this.#cache);
    const [pageCount, maxPages] = [pagesOf(lengths), Math.max(...lengths.map(widthOf))];
    const slots = Math.floor(TOKENS / PAGE / pageCount);
    const usual = 5 + (2 * pageCount * pageBytes) / USUAL_RATE;
    const launches = Math.max(3, Math.min(MOST_LAUNCHES, Math.ceil(GRAPH_US / usual)));
    let next = 0;
    const rowPages = lengths.flatMap((length) => Array.from({ length: maxPages }, (_, i) => (i < widthOf(length) ? next++ : 0)));
    const pages = bench.upload(Int32Array.from(rowPages));
    const positions = bench.upload(Int32Array.from(lengths, (length) => length - 1));
    const ms = bench.timedGraph(launches, (call) => {
      const [kCache, vCache] = this.#caches.map((at) => at + BigInt((call % slots) * pageCount * pageBytes)) as [bigint, bigint];
      const parameters = writeParameters(ATTENTION_STEP, {
        ...{ q, k, v, qNorm: 0n, kNorm: 0n, table, kCache, vCache, y, positions, pages },
        ...{ partial: scratch + BigInt(this.#counters) },
        ...{ heads, kvHeads, group: heads / kvHeads, dim, maxPages, window: 0, ...cut },
        ...{ scale: Math.LOG2E / Math.sqrt(dim), eps: 0, ordered: 0, unused: 0 },
      });
      const grid = [cut.splits, launch.grid[1], rows] as const;
      bench.launch({ ...launch, grid, parameters, overlap: this.#overlap });
    });
    bench.free(pages, positions);
    return ms * 1e3;
  }

  free(): void {
    this.#bench.free(...this.#caches, ...Object.values(this.#memory));
  }
}

const widthOf = (length: number): number => Math.ceil(length / PAGE);

function pagesOf(lengths: readonly number[]): number {
  return lengths.reduce((sum, length) => sum + widthOf(length), 0);
}

runSections(
  (gpu) => new SplitTimes(gpu),
  {
    apart: (times) => times.table(false),
    few: (times) => times.table(false, FEW_ROWS),
    least: (times) => times.least(),
    overlapping: (times) => times.table(true),
    idle: (times) => times.idle(),
  },
  ["apart", "idle"],
);
