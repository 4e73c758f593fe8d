// How attention (kernels/attention.cu, attention_quantized.cu) is launched: kernels, grids, shared memory, and into how many parts
// one token's keys are cut. Pure arithmetic, from shapes alone, so that every card gives the same bits.

import type { CacheType } from "../../../memory/packing.js";
import type { KernelFamily } from "../launch/kernel-modules.js";
import { type ParameterValues, writeParameters } from "../launch/parameter-layout.js";
import { hasWgmma } from "../linears/gemm-launch.js";
import { ATTENTION } from "./attention-layouts.js";

/** Types of cache that there are kernels for. */
export type KernelCache = Exclude<CacheType, "f32">;

/** The kernels' head sizes; any other multiple of 8 is padded to the next. */
const KERNEL_DIMS = { f16: [64, 80, 96, 128, 192, 256], q8: [64, 96, 128, 192, 256], q4: [64, 96, 128, 192, 256] } as const;
type KernelDim = (typeof KERNEL_DIMS)["f16"][number];

/** Most query rows of a tile of a prompt, all of one sequence at consecutive positions. */
export const PREFILL_ROWS = 128;
/** Rows of a block of the kernels without warpgroup products. */
const BLOCK_ROWS = 64;
/** kTileShared of kernels/attention_wgmma.cu. */
const WGMMA_SHARED = 197792;
/** Query heads of one KV head that a block takes together. */
const HEADS_TOGETHER = 16;
/** Tiles that are on their way or in use by a block that reads a prompt. */
const STAGES = 2;
/** Keys of a tile of each warp of a decode kernel, and its tiles on their way or in use, where shared memory is scarce, and where two blocks have 200 KB of it. */
const DECODE_RINGS = {
  f16: { narrow: { keys: 16, stages: STAGES }, wide: { keys: 16, stages: 3 } },
  q8: { narrow: { keys: 16, stages: 3 }, wide: { keys: 32, stages: 3 } },
  q4: { narrow: { keys: 16, stages: 4 }, wide: { keys: 32, stages: 5 } },
} as const;

/** The card that a kernel is launched on. */
export interface AttentionCard {
  /** Compute capability. */
  readonly major: number;
  readonly minor: number;
  readonly multiprocessors: number;
}

/** The rings of a card's image of the kernels: kStages and kKeys of HalfCells (kernels/attention.cu) and CodeCells (attention_quantized.cu). */
function ringOf(
  dim: KernelDim,
  cache: KernelCache,
  { major, minor }: Pick<AttentionCard, "major" | "minor">,
): { readonly keys: number; readonly stages: number } {
  const { narrow, wide } = DECODE_RINGS[cache];
  const newest = major === 9 || major === 10;
  if (cache === "f16") return newest ? wide : major < 8 ? { ...narrow, stages: 1 } : narrow;
  return (newest || (major === 8 && minor === 0)) && dim <= 192 ? wide : narrow;
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

export interface PrefillLaunch extends AttentionLaunch {
  /** Where blocks take tiles in rounds, how many there are: what TiledAttentionParams has behind AttentionParams; else null. */
  readonly tiles: number | null;
}

/** What a kernel of prefillLaunch() takes. */
export function prefillParameters(
  { tiles }: PrefillLaunch,
  values: ParameterValues<typeof ATTENTION.fields>,
): Uint8Array<ArrayBuffer> {
  const attention = writeParameters(ATTENTION, values);
  if (tiles === null) return attention;
  const parameters = new Uint8Array(attention.length + 8);
  parameters.set(attention);
  new DataView(parameters.buffer).setInt32(attention.length, tiles, true);
  return parameters;
}

/** @param tiles of at most PREFILL_ROWS rows */
export function prefillLaunch(
  { heads, headDim }: AttentionShape,
  tiles: number,
  cache: KernelCache,
  card: AttentionCard,
): PrefillLaunch {
  if (hasWgmma(card) && cache === "f16" && headDim === 128) {
    const kernel = { family: "attention_wgmma", name: "attention_prefill_wgmma_d128" } as const;
    return { ...kernel, grid: [Math.min(heads * tiles, card.multiprocessors), 1, 1], block: 384, shared: WGMMA_SHARED, tiles };
  }
  const dim = kernelDim(headDim, cache);
  const keys = prefillKeys(dim);
  // Of a quantised cache one tile is in use as fp16 while the codes of the next arrive.
  const tile = cache === "f16" ? STAGES * tileBytes(dim, keys) : tileBytes(dim, keys) + codeBytes(dim, keys, cache);
  return {
    ...kernelOf("prefill", dim, cache),
    grid: [heads, (PREFILL_ROWS / BLOCK_ROWS) * tiles, 1],
    block: 128,
    shared: 2 * tile,
    tiles: null,
  };
}

function kernelOf(what: "prefill" | "decode", dim: KernelDim, cache: KernelCache): Pick<AttentionLaunch, "family" | "name"> {
  if (cache === "f16") return { family: "attention", name: `attention_${what}_d${dim}` };
  return { family: "attention_quantized", name: `attention_${what}_${cache}_d${dim}` };
}

export interface DecodeLaunch extends AttentionLaunch {
  /** Fields of AttentionStepParams. */
  readonly splits: number;
  readonly least: number;
}

/** Keys of a part at least: what the rings hold before the kernel ahead has ended costs no time. */
const LEAST_KEYS = 128;
/** One token of each of `rows` sequences. */
export function decodeLaunch(shape: AttentionShape, rows: number, cache: KernelCache, card: AttentionCard): DecodeLaunch {
  const dim = kernelDim(shape.headDim, cache);
  const warps = dim <= 128 ? 4 : 2;
  const { keys, stages } = ringOf(dim, cache, card);
  const tile = cache === "f16" ? tileBytes(dim, keys) : codeBytes(dim, keys, cache);
  const splits = decodeSplits(shape, rows);
  return {
    ...kernelOf("decode", dim, cache),
    grid: [splits, headTiles(shape), rows],
    block: warps * 32,
    shared: warps * stages * 2 * tile + stepHeadBytes(dim, cache),
    splits,
    least: LEAST_KEYS,
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

const MOST_SPLITS = 32;
/** Blocks at work at once on the card that the parts are made for: two on each multiprocessor of an H100. Another card loses a little; none gives other bits. */
const USUAL_BLOCKS = 264;
/** What another part costs, as a share of the whole: its beginning, its merging. */
const SPLIT_COST = 0.02;
/** Tokens whose parts may be more blocks than are at work at once. For more tokens that is slower than blocks with all keys, which begin as others end (bench/NOTES.md). */
const FEW_ROWS = 8;

/**
 * Parts into which each of `rows` tokens' keys are cut. Up to FEW_ROWS tokens: few, but so that no block waits long for another.
 * Beyond: as many as are at work at once, never more with more tokens.
 */
export function decodeSplits(shape: AttentionShape, rows: number): number {
  const blocks = headTiles(shape) * rows;
  const time = (splits: number) => (Math.ceil((blocks * splits) / USUAL_BLOCKS) / splits) * (1 + SPLIT_COST * splits);
  const most = rows <= FEW_ROWS ? MOST_SPLITS : Math.min(MOST_SPLITS, USUAL_BLOCKS / blocks);
  let best = 1;
  for (let splits = 2; splits <= most; splits++) if (time(splits) < time(best)) best = splits;
  return best;
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
