// How kernels/linear_prompt.cu is launched: which linears and cards it is for, how many tokens a tile has, how many blocks there
// are, into how many parts k is cut. Pure arithmetic. A tile's size does not show in the bits, a cut of k does: it follows from the
// launch's shape and the card's multiprocessors.

import { type KernelGroup, TILE_ROWS } from "../weights/quantized-layout.js";
import { type GemmCard, hasWgmma } from "./gemm-launch.js";

/** Linears of 4 bits that read the same x. */
export interface PromptShape {
  readonly rows: number;
  readonly inputs: number;
  /** Of each linear. */
  readonly outputs: readonly number[];
  readonly group: KernelGroup;
  /** silu(first) · second. */
  readonly silu: boolean;
}

export interface PromptLaunch {
  readonly name: string;
  readonly grid: readonly [x: number];
  readonly block: number;
  /** Dynamic shared memory, bytes. */
  readonly shared: number;
  /** Blocks of a cluster: parts of k. 1: no clusters. */
  readonly cluster: number;
  /** Of a tile: rows of x in a box of its tensor map. */
  readonly tokens: number;
  /** Tokens of an f16 result that are written at once; of f32 half as many. */
  readonly piece: number;
}

/** A tile's tokens, and the parts of k. */
export interface PromptCut {
  readonly tokens: number;
  readonly cut: number;
}

/** Outputs of a block; half of them gate's and half of them up's where silu is in it. */
const TILE_OUTPUTS = 8 * TILE_ROWS;
/** Inputs of two steps. */
const STEP_INPUTS = 128;
/** A row of results begins at a multiple of 16 bytes. */
const OUTPUT_MULTIPLE = 8;

/** PromptTile of linear_prompt_tiles.cuh, and relative times of a step of 64 k as measured on an H200 (bench/NOTES.md): 100 are 0.6 µs. */
const TILES = [
  { tokens: 256, piece: 64, shared: 230512, cost: 100 },
  { tokens: 240, piece: 80, shared: 226416, cost: 96 },
  { tokens: 192, piece: 64, shared: 230544, cost: 85 },
  { tokens: 160, piece: 80, shared: 205968, cost: 79 },
  { tokens: 128, piece: 64, shared: 165008, cost: 72 },
] as const;

/** What it costs to meet in a cluster, and what each token of the sums costs that a block hands to others, in the same unit. */
const MEETING = 250;
const HANDED_TOKEN = 3.4;

/**
 * Multiprocessors that clusters of so many blocks leave idle: of every 16, 18 or so that share a part of the card, what is no multiple. 132 ran
 * 66, 39 and 30 clusters at once. More wait for the first to end: that costs time, not correctness.
 */
const LEFT_IDLE: readonly number[] = [0, 0, 0, 15, 12];

/** Parts of k that there can be: kMostCut of linear_prompt_tiles.cuh. */
export const PROMPT_CUTS: readonly number[] = [1, 2, 3, 4];

/** Whether these linears can go through the kernel. */
export function fitsPrompt(card: GemmCard, { inputs, outputs }: Pick<PromptShape, "inputs" | "outputs">): boolean {
  return hasWgmma(card) && inputs % STEP_INPUTS === 0 && outputs.length <= 3 && outputs.every((n) => n % OUTPUT_MULTIPLE === 0);
}

export function promptLaunch(card: GemmCard, shape: PromptShape): PromptLaunch {
  const all = TILES.flatMap((tile) =>
    PROMPT_CUTS.filter((cut) => cut === 1 || paysToCut(card, shape, tile.tokens, cut)).map((cut) => ({
      ...{ tokens: tile.tokens, cut },
      time: timeOf(card, shape, tile, cut),
    })),
  );
  return promptLaunchOf(
    card,
    shape,
    all.reduce((best, each) => (each.time < best.time ? each : best)),
  );
}

/**
 * With tiles of so many tokens, and so many parts of k.
 *
 * @throws {RangeError} where fitsCut() does not allow it: a part without inputs would be waited for in vain
 */
export function promptLaunchOf(card: GemmCard, shape: PromptShape, { tokens, cut }: PromptCut): PromptLaunch {
  if (!fitsCut(shape, cut)) throw new RangeError(`k of ${shape.inputs} is not cut into ${cut} parts`);
  const { piece, shared } = TILES.find((tile) => tile.tokens === tokens)!;
  const tiles = promptTiles(shape, tokens);
  return {
    name: `linear_prompt_q4_g${shape.group}_t${tokens}`,
    grid: [cut > 1 ? tiles * cut : Math.min(tiles, card.multiprocessors)],
    block: 384,
    shared,
    cluster: cut,
    tokens,
    piece,
  };
}

/** Whether the kernel can cut k into so many parts. */
export function fitsCut({ inputs, silu }: PromptShape, cut: number): boolean {
  return cut === 1 || (!silu && inputs / STEP_INPUTS >= cut);
}

/** Every width of a tile that there is. */
export const PROMPT_TOKENS: readonly number[] = TILES.map(({ tokens }) => tokens);

/** All clusters have to run at once: a block has one tile, and a second round of blocks begins from nothing. */
function paysToCut(card: GemmCard, shape: PromptShape, tokens: number, cut: number): boolean {
  const clusters = Math.floor((card.multiprocessors - LEFT_IDLE[cut]!) / cut);
  return fitsCut(shape, cut) && promptTiles(shape, tokens) <= clusters;
}

function timeOf(card: GemmCard, shape: PromptShape, { tokens, cost }: (typeof TILES)[number], cut: number): number {
  const steps = 2 * Math.ceil(shape.inputs / STEP_INPUTS / cut);
  if (cut > 1) return cost * steps + MEETING + HANDED_TOKEN * Math.min(shape.rows, tokens) * (1 - 1 / cut);
  return cost * steps * Math.ceil(promptTiles(shape, tokens) / card.multiprocessors);
}

function promptTiles({ rows, outputs, silu }: PromptShape, tokens: number): number {
  const blocks = silu
    ? Math.ceil(outputs[0]! / (TILE_OUTPUTS / 2))
    : outputs.reduce((sum, n) => sum + Math.ceil(n / TILE_OUTPUTS), 0);
  return blocks * Math.ceil(rows / tokens);
}
