// How kernels/linear_prompt.cu is launched: which linears and cards it is for, how many tokens a tile has, how many blocks there
// are. Pure arithmetic. Whatever is chosen, a card gives the same bits: only the size of tiles differs.

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
  /** Of a tile: rows of x in a box of its tensor map. */
  readonly tokens: number;
  /** Tokens of an f16 result that are written at once; of f32 half as many. */
  readonly piece: number;
}

/** Outputs of a block; half of them gate's and half of them up's where silu is in it. */
const TILE_OUTPUTS = 8 * TILE_ROWS;
/** Inputs of two steps. */
const STEP_INPUTS = 128;
/** A row of results begins at a multiple of 16 bytes. */
const OUTPUT_MULTIPLE = 8;

/** PromptTile of linear_prompt.cu, and relative times of a step of k as measured on an H200 (bench/NOTES.md). */
const TILES = [
  { tokens: 256, piece: 64, shared: 230496, cost: 100 },
  { tokens: 240, piece: 80, shared: 226400, cost: 96 },
  { tokens: 192, piece: 64, shared: 230528, cost: 85 },
  { tokens: 160, piece: 80, shared: 205952, cost: 79 },
  { tokens: 128, piece: 64, shared: 164992, cost: 72 },
] as const;

/** Whether these linears can go through the kernel. */
export function fitsPrompt(card: GemmCard, { inputs, outputs }: Pick<PromptShape, "inputs" | "outputs">): boolean {
  return hasWgmma(card) && inputs % STEP_INPUTS === 0 && outputs.length <= 3 && outputs.every((n) => n % OUTPUT_MULTIPLE === 0);
}

export function promptLaunch(card: GemmCard, shape: PromptShape): PromptLaunch {
  const all = TILES.map((tile) => ({
    ...tile,
    time: tile.cost * Math.ceil(promptTiles(shape, tile.tokens) / card.multiprocessors),
  }));
  const { tokens } = all.reduce((best, each) => (each.time < best.time ? each : best));
  return promptLaunchOf(card, shape, tokens);
}

/** With tiles of so many tokens. */
export function promptLaunchOf(card: GemmCard, shape: PromptShape, tokens: number): PromptLaunch {
  const { piece, shared } = TILES.find((tile) => tile.tokens === tokens)!;
  return {
    name: `linear_prompt_q4_g${shape.group}_t${tokens}`,
    grid: [Math.min(promptTiles(shape, tokens), card.multiprocessors)],
    block: 384,
    shared,
    tokens,
    piece,
  };
}

/** Every width of a tile that there is. */
export const PROMPT_TOKENS: readonly number[] = TILES.map(({ tokens }) => tokens);

function promptTiles({ rows, outputs, silu }: PromptShape, tokens: number): number {
  const blocks = silu
    ? Math.ceil(outputs[0]! / (TILE_OUTPUTS / 2))
    : outputs.reduce((sum, n) => sum + Math.ceil(n / TILE_OUTPUTS), 0);
  return blocks * Math.ceil(rows / tokens);
}
