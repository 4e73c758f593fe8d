// How slices of 17 to 128 tokens' linears are dealt out on Hopper: in equal runs to so many blocks, whose pieces of a unit one block adds
// (kernels/linear_batch_wgmma.cu), or those of a unit to the blocks of a cluster (kernels/linear_batch_cluster.cu). Pure
// arithmetic: what takes least time by a few costs, which are fitted to a sweep on an H200 (bench/NOTES.md).

export type BatchCut = { readonly runs: number } | { readonly cluster: number };

export interface BatchWork {
  /** That a unit has room for. */
  readonly tokens: CutTokens;
  readonly units: number;
  /** Of a unit. */
  readonly slices: number;
  readonly multiprocessors: number;
  /** Most blocks that run at once. */
  readonly blocks: number;
  /** How many clusters of 1, 2, … MOST_CLUSTER blocks run at once; `null`: there is no such kernel. */
  readonly clustersAtOnce: readonly number[] | null;
}

export type CutTokens = 32 | 64 | 128;

/** Blocks of a cluster; more of them are for the driver to allow. */
export const MOST_CLUSTER = 8;
/** With fewer blocks than this part of those that run at once nothing was measured. */
const LEAST_FILLED = 1 / 4;

/** Microseconds. */
interface Costs {
  /** Whatever is done; a slice of a block, in each turn of as many clusters as run at once; a block whose sums are read; each turn but one. */
  readonly cluster: { readonly launch: number; readonly slice: number; readonly block: number; readonly turn: number };
  /** Whatever is done; a slice of a block; each piece of a unit but one; a block of each multiprocessor. */
  readonly runs: { readonly launch: number; readonly slice: number; readonly piece: number; readonly block: number };
}

const COSTS: Readonly<Record<CutTokens, Costs>> = {
  32: {
    cluster: { launch: 0, slice: 1.95, block: 0.5, turn: 0 },
    runs: { launch: 0, slice: 1.95, piece: 1, block: 0.5 },
  },
  64: {
    cluster: { launch: 0, slice: 2.45, block: 0.62, turn: 0 },
    runs: { launch: 2, slice: 2.5, piece: 1.9, block: 2 },
  },
  128: {
    cluster: { launch: 3.3, slice: 1.9, block: 0.23, turn: 2.8 },
    runs: { launch: 4.7, slice: 2, piece: 3.4, block: 2.7 },
  },
};

/** What takes least time; of what takes the same, the first of cutsOf(). */
export function bestCut(work: BatchWork): BatchCut {
  const cuts = cutsOf(work);
  const times = cuts.map((cut) => cutTime(work, cut));
  return cuts[times.indexOf(Math.min(...times))]!;
}

/** What there is to choose from: all blocks that run at once, or slices where these are fewer; and whole numbers of blocks to a unit. */
export function cutsOf({ units, slices, blocks, clustersAtOnce }: BatchWork): BatchCut[] {
  const cuts: BatchCut[] = [{ runs: Math.min(blocks, units * slices) }];
  const most = Math.min(MOST_CLUSTER, slices, Math.floor(blocks / units));
  const least = Math.min(most, Math.ceil((blocks * LEAST_FILLED) / units));
  for (let ways = Math.max(1, least); ways <= most; ways++) {
    cuts.push({ runs: ways * units });
    if (ways > 1 && clustersAtOnce?.[ways - 1]) cuts.push({ cluster: ways });
  }
  return cuts;
}

/** @returns microseconds on an H200, roughly */
export function cutTime({ tokens, units, slices, multiprocessors, clustersAtOnce }: BatchWork, cut: BatchCut): number {
  const costs = COSTS[tokens];
  if ("cluster" in cut) {
    const { launch, slice, block, turn } = costs.cluster;
    const turns = Math.ceil(units / (clustersAtOnce?.[cut.cluster - 1] ?? 0));
    return launch + turns * Math.ceil(slices / cut.cluster) * slice + cut.cluster * block + (turns - 1) * turn;
  }
  const { launch, slice, piece, block } = costs.runs;
  const ways = cut.runs / units;
  const pieces = Number.isInteger(ways) ? ways : ways + 1; // uneven runs begin and end anywhere in a unit
  const longest = Math.ceil((units * slices) / cut.runs);
  return launch + longest * slice + (pieces - 1) * piece + (cut.runs / multiprocessors) * block;
}
