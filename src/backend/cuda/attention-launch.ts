// How attention (kernels/attention.cu, attention_quantized.cu) is launched: kernels, grids, shared memory, and into how many parts
// one token's keys are cut. Pure arithmetic, from shapes alone, so that every card gives the same bits.

import type { CacheType } from "../../memory/packing.js";
import type { KernelFamily } from "./kernel-modules.js";

/** Types of cache that there are kernels for. */
export type KernelCache = Exclude<CacheType, "f32">;

/** The kernels' head sizes; any other multiple of 8 is padded to the next. */
const KERNEL_DIMS = { f16: [64, 80, 96, 128, 192, 256], q8: [64, 96, 128, 192, 256], q4: [64, 96, 128, 192, 256] } as const;
type KernelDim = (typeof KERNEL_DIMS)["f16"][number];

/** Most query rows of a tile of a prompt, all of one sequence at consecutive positions. */
export const PREFILL_ROWS = 64;
/** Query heads of one KV head that a block takes together. */
const HEADS_TOGETHER = 16;
/** Tiles that are on their way or in use by a block that reads a prompt. */
const STAGES = 2;
/** The same of each warp of a decode kernel, and the keys of a tile. */
const DECODE_RINGS = {
  f16: { turing: { keys: 16, stages: 1 }, narrow: { keys: 16, stages: 2 }, wide: { keys: 16, stages: 2 } },
  q8: { turing: { keys: 16, stages: 3 }, narrow: { keys: 16, stages: 3 }, wide: { keys: 32, stages: 3 } },
  q4: { turing: { keys: 16, stages: 4 }, narrow: { keys: 16, stages: 4 }, wide: { keys: 32, stages: 5 } },
} as const;

/** Compute capability of the card that a kernel is launched on. */
export interface AttentionCard {
  readonly major: number;
  readonly minor: number;
}

/** The rings of a card's image of the kernels: wide ones where a multiprocessor has shared memory for them (EXLLAMA_WIDE_DECODE of kernels/attention_quantized.cu). */
function ringOf({ major, minor }: AttentionCard): "turing" | "narrow" | "wide" {
  if (major < 8) return "turing";
  return (major === 8 && minor === 0) || major === 9 || major === 10 ? "wide" : "narrow";
}

export interface AttentionLaunch {
  readonly family: KernelFamily;
  readonly name: string;
  readonly grid: readonly [x: number, y: number, z: number];
  readonly block: number;
  /** Dynamic shared memory, bytes. */
  readonly shared: number;
}

export interface AttentionShape {
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
}

/** @throws {RangeError} for head sizes that have no kernel */
export function kernelDim(headDim: number, cache: KernelCache): KernelDim {
  const dim = KERNEL_DIMS[cache].find((each) => each >= headDim);
  if (dim === undefined || headDim <= 0 || headDim % 8 !== 0) throw new RangeError(`no attention kernel for heads of ${headDim}`);
  return dim;
}

/** Bytes of `tokens` rows in shared memory: HeadTile of kernels/attention_rows.cuh. */
function tileBytes(dim: KernelDim, tokens: number): number {
  const cells = dim / 8;
  return tokens * (cells % 8 === 0 ? cells : cells + 1) * 16;
}

/** Bytes of `tokens` rows of codes and their scales: CodeTile of kernels/attention_codes.cuh. */
function codeBytes(dim: KernelDim, tokens: number, cache: "q8" | "q4"): number {
  return tokens * (cache === "q8" ? dim + 2 : dim / 2 + dim / 16);
}

/** Keys of a prefill tile. */
function prefillKeys(dim: KernelDim): number {
  if (dim <= 128) return 64;
  return dim <= 192 ? 32 : 16;
}

/** @param tiles of at most PREFILL_ROWS rows */
export function prefillLaunch({ heads, headDim }: AttentionShape, tiles: number, cache: KernelCache): AttentionLaunch {
  const dim = kernelDim(headDim, cache);
  const keys = prefillKeys(dim);
  // Of a quantised cache one tile is in use as fp16 while the codes of the next arrive.
  const tile = cache === "f16" ? STAGES * tileBytes(dim, keys) : tileBytes(dim, keys) + codeBytes(dim, keys, cache);
  return { ...kernelOf("prefill", dim, cache), grid: [heads, tiles, 1], block: 128, shared: 2 * tile };
}

function kernelOf(what: "prefill" | "decode", dim: KernelDim, cache: KernelCache): Pick<AttentionLaunch, "family" | "name"> {
  if (cache === "f16") return { family: "attention", name: `attention_${what}_d${dim}` };
  return { family: "attention_quantized", name: `attention_${what}_${cache}_d${dim}` };
}

export interface DecodeLaunch extends AttentionLaunch {
  /** Blocks along x that merge their parts through each other's shared memory. */
  readonly cluster: number;
  /** Fields of AttentionStepParams. */
  readonly splits: number;
  readonly least: number;
}

/** Keys of a part at least: what the rings hold before the kernel ahead has ended costs no time. */
const LEAST_KEYS = { f16: 128, q8: 128, q4: 128 } as const;
/** Blocks of a cluster at most: more would depend on the card. */
const MOST_TOGETHER = 8;

/** One token of each of `rows` sequences. */
export function decodeLaunch(shape: AttentionShape, rows: number, cache: KernelCache, card: AttentionCard): DecodeLaunch {
  const dim = kernelDim(shape.headDim, cache);
  const warps = dim <= 128 ? 4 : 2;
  const { keys, stages } = DECODE_RINGS[cache][ringOf(card)];
  const tile = cache === "f16" ? tileBytes(dim, keys) : codeBytes(dim, keys, cache);
  const splits = decodeSplits(shape, rows);
  return {
    ...kernelOf("decode", dim, cache),
    grid: [splits, headTiles(shape), rows],
    block: warps * 32,
    shared: warps * stages * 2 * tile + stepHeadBytes(dim, cache),
    cluster: card.major >= 9 ? Math.min(splits, MOST_TOGETHER) : 1,
    splits,
    least: LEAST_KEYS[cache],
  };
}

/** StepHeads::kBytes of kernels/attention_step.cuh: sixteen rows of queries, the newest key and value. */
function stepHeadBytes(dim: KernelDim, cache: KernelCache): number {
  const bits = { f16: 16, q8: 8, q4: 4 }[cache];
  return 16 * (dim + 8) * 2 + 2 * (Math.ceil((dim * bits) / 128) * 16 + 16);
}

/** Thread blocks that share one token's keys of a part. */
export function headTiles({ heads, kvHeads }: AttentionShape): number {
  return kvHeads * Math.ceil(heads / kvHeads / HEADS_TOGETHER);
}

/** As many as fit in a cluster, or whole clusters. */
const SPLITS = [1, 2, 3, 4, 5, 6, 7, 8, 16, 24, 32] as const;
/** Blocks at work at once on the card that the parts are made for: two on each multiprocessor of an H100. Another card loses a little; none gives other bits. */
const USUAL_BLOCKS = 264;
/** What another part costs, as a share of the whole: its beginning, its merging. */
const SPLIT_COST = 0.02;

/** Parts into which each of `rows` tokens' keys are cut: few, but so that no block waits long for another. */
export function decodeSplits(shape: AttentionShape, rows: number): number {
  const blocks = headTiles(shape) * rows;
  const time = (splits: number) => (Math.ceil((blocks * splits) / USUAL_BLOCKS) / splits) * (1 + SPLIT_COST * splits);
  return SPLITS.reduce<number>((best, splits) => (time(splits) < time(best) ? splits : best), 1);
}

/**
 * Bytes of the decode kernels' scratch for `rows` tokens: counters, then f32 per (row, head, split) of
 * sums, maximum, total. AttentionStepParams.partial is the address behind the counters, which must
 * be zero before the first launch and are zero after each.
 */
export function partialLayout(shape: AttentionShape, rows: number): { counters: number; bytes: number } {
  const counters = Math.ceil((headTiles(shape) * rows * 4) / 256) * 256;
  let most = 0;
  for (let m = 1; m <= rows; m++) most = Math.max(most, m * decodeSplits(shape, m));
  return { counters, bytes: counters + most * shape.heads * (shape.headDim + 2) * 4 };
}
