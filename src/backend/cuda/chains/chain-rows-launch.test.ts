import { readFileSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { packageRoot } from "../../../paths.js";
import type { StreamingCard } from "../linears/linear-launch.js";
import { SUPERBLOCK, superblockBytes, TILE_ROWS } from "../weights/quantized-layout.js";
import type { ChainShape, ChainShare } from "./chain-launch.js";
import { type ChainRowsLaunch, chainRowsLaunch, chainRowsScratch, hasChainRowsKernel } from "./chain-rows-launch.js";

const HOPPER: StreamingCard = { multiprocessors: 132, major: 9, sharedPerBlock: 232448 };
const header = readFileSync(join(packageRoot, "kernels", "chain_rows.cuh"), "utf8");
/** A number that chain_rows.cuh gives a constant. */
const stated = (name: string): number => Number(new RegExp(`\\b${name} ==? (\\d+)`).exec(header)?.[1]);
const SUM_BYTES = 16 * 8 * 4;
const HEAD_BYTES = stated("kRowsBarrierBytes") + stated("kMostKeptTiles") * SUM_BYTES;
const PART_BYTES = stated("kPartBytes");
const STAGE_BYTES = Math.ceil(superblockBytes(4, 128, SUPERBLOCK) / 128) * 128;

const shapeOf = (hidden: number, attention: number, intermediate: number, next: readonly number[]): ChainShape => ({
  ...{ bits: 4, group: 128, hidden, attention, intermediate, next },
});
const LLAMA_7B = shapeOf(4096, 4096, 11008, [4096, 4096, 4096]);
/** By name: the shape, sums, blocks that have the same row tiles of o and down. */
const SHAPES: readonly (readonly [string, ChainShape, number, number])[] = [
  ["the smallest", shapeOf(128, 256, 384, [128, 64, 64]), 16, 1],
  ["Qwen 2.5 0.5B", shapeOf(896, 896, 4864, [896, 128, 128]), 48, 1],
  ["TinyLlama", shapeOf(2048, 2048, 5632, [2048, 256, 256]), 48, 2],
  ["Qwen 2.5 7B", shapeOf(3584, 3584, 18944, [3584, 512, 512]), 72, 4],
  ["Qwen 3 4B", shapeOf(2560, 4096, 9728, [4096, 1024, 1024]), 48, 4],
  ["7B", LLAMA_7B, 48, 4],
  ["8B", shapeOf(4096, 4096, 14336, [4096, 1024, 1024]), 56, 4],
  ["13B", shapeOf(5120, 5120, 13824, [5120, 5120, 5120]), 56, 4],
  ["70B", shapeOf(8192, 8192, 28672, [8192, 1024, 1024]), 112, 4],
];

/** Row tiles of each linear; of gate and up: pairs. */
function partsOf({ hidden, intermediate, next }: ChainShape): readonly number[] {
  return [hidden, intermediate, hidden, next.reduce((sum, n) => sum + n, 0)].map((outputs) => outputs / TILE_ROWS);
}

/** Inputs of each linear. */
const inputsOf = ({ hidden, attention, intermediate }: ChainShape): readonly number[] => [
  attention,
  hidden,
  intermediate,
  hidden,
];

/** How often blocks take each superblock of each part, as RowsShare in chain_rows.cuh deals them out. */
function taken({ each, more }: ChainShare, parts: number, k: number, grid: number, bits: number): Uint8Array {
  const superblocks = Math.ceil(k / SUPERBLOCK);
  const count = new Uint8Array(parts * superblocks);
  const groups = grid >> bits;
  for (let block = 0; block < groups << bits; block++) {
    const [group, split] = [block >> bits, block & ((1 << bits) - 1)];
    for (let t = 0; t < each + (group < more ? 1 : 0); t++) {
      const part = t < each ? group * each + t : groups * each + group;
      for (let s = (superblocks * split) >> bits; s < (superblocks * (split + 1)) >> bits; s++) count[part * superblocks + s]!++;
    }
  }
  return count;
}

/** The most sums of any block: rows_ways() of its tiles for each of them, also where it has fewer than others. */
function mostSums({ shares }: ChainRowsLaunch): number {
  const sums = (tiles: number) => tiles * (tiles <= 6 ? 8 : 4);
  return Math.max(
    ...shares.flatMap(({ each, more }, i) => [each, each + (more > 0 ? 1 : 0)].map((parts) => sums(parts * (i === 1 ? 2 : 1)))),
  );
}

function holds(launch: ChainRowsLaunch, shape: ChainShape, card: StreamingCard): void {
  partsOf(shape).forEach((parts, i) => {
    const bits = i === 0 || i === 2 ? launch.splitBits : 0;
    const k = inputsOf(shape)[i]!;
    expect(taken(launch.shares[i]!, parts, k, launch.grid, bits).every((times) => times === 1)).toBe(true);
    // A block of a group that has nothing to multiply would have no sums either.
    if (k > 0) expect(Math.ceil(k / SUPERBLOCK)).toBeGreaterThanOrEqual(2 ** bits);
  });
  const blocks = (i: number, bits: number) => Math.min(launch.grid >> bits, partsOf(shape)[i]!) << bits;
  // Who has some of the residual stream has some of gate, or else of q, k and v alone.
  expect(blocks(shape.attention > 0 ? 1 : 3, 0)).toBeGreaterThanOrEqual(blocks(0, launch.splitBits));
  expect(launch.stages).toBeGreaterThanOrEqual(8);
  expect(launch.stages).toBeLessThanOrEqual(24);
  expect(launch.flying).toBeLessThan(launch.stages);
  expect(launch.xAt).toBe(HEAD_BYTES + launch.stages * STAGE_BYTES);
  expect(launch.sumsAt).toBe(launch.xAt + PART_BYTES);
  expect([launch.xAt, launch.sumsAt].filter((at) => at % 128 !== 0)).toEqual([]);
  expect(launch.shared).toBeGreaterThanOrEqual(launch.sumsAt + mostSums(launch) * SUM_BYTES);
  expect(launch.shared).toBeLessThanOrEqual(card.sharedPerBlock);
}

describe("chainRowsLaunch", () => {
  it.each(SHAPES)("deals out everything of %s once, within a block's shared memory", (_, shape, sums, splits) => {
    const launch = chainRowsLaunch(shape, HOPPER)!;
    holds(launch, shape, HOPPER);
    expect(launch).toMatchObject({
      name: "linear_chain_rows_q4_g128",
      grid: 132,
      block: 640,
      splitBits: Math.log2(splits),
    });
    expect(launch.shared - launch.sumsAt).toBe(sums * SUM_BYTES);
    const room = HOPPER.sharedPerBlock - HEAD_BYTES - PART_BYTES - sums * SUM_BYTES;
    expect(launch.stages).toBe(Math.floor(room / STAGE_BYTES));
  });

  it("has more copies under way where the hidden state is wide, or as many as it is told", () => {
    expect(SHAPES.map(([, shape]) => chainRowsLaunch(shape, HOPPER)!.flying)).toEqual([4, 4, 4, 4, 4, 4, 4, 4, 5]);
    const { stages } = chainRowsLaunch(LLAMA_7B, HOPPER)!;
    expect(chainRowsLaunch(LLAMA_7B, HOPPER, stages - 1)).toMatchObject({ stages, flying: stages - 1 });
    expect(chainRowsLaunch(LLAMA_7B, HOPPER, stages)).toBeNull();
  });

  it("does so whatever the sizes and the card", () => {
    const spans = (most: number) => fc.integer({ min: 1, max: most }).map((count) => count * 128);
    const tiles = (most: number) => fc.integer({ min: 1, max: most }).map((count) => count * TILE_ROWS);
    const shapes = fc.record({
      ...{ bits: fc.constant(4 as const), group: fc.constant(128 as const), hidden: spans(64), attention: spans(64) },
      ...{ intermediate: spans(224), next: fc.oneof(fc.constant([]), fc.tuple(tiles(512), tiles(64), tiles(64))) },
    });
    fc.assert(
      fc.property(shapes, fc.integer({ min: 16, max: 144 }), (shape, multiprocessors) => {
        const card = { ...HOPPER, multiprocessors };
        const launch = chainRowsLaunch(shape, card);
        if (!launch) return; // too much for so few
        holds(launch, shape, card);
        const room = chainRowsScratch(shape);
        expect(launch.grid * 16).toBeLessThanOrEqual(room.epochs);
        expect((shape.hidden / TILE_ROWS) * 2 ** launch.splitBits * SUM_BYTES).toBeLessThanOrEqual(room.pieces);
        // What goes together goes apart as well, dealt out alike: bits do not depend on where a model is cut.
        const last = chainRowsLaunch({ ...shape, next: [] }, card)!;
        const first = chainRowsLaunch({ ...shape, attention: 0, intermediate: 0 }, card)!;
        expect(last.shares.slice(0, 3)).toEqual(launch.shares.slice(0, 3));
        expect(last.splitBits).toBe(launch.splitBits);
        if (shape.next.length === 0) return;
        expect(first.shares[3]).toEqual(launch.shares[3]);
        holds(first, { ...shape, attention: 0, intermediate: 0 }, card);
      }),
    );
  });

  it.each<[string, Partial<ChainShape>, Partial<StreamingCard>]>([
    ["older cards", {}, { major: 8 }],
    ["cards after Hopper", {}, { major: 10 }],
    ["small cards", {}, { major: 12, sharedPerBlock: 101376 }],
    ["8 bits", { bits: 8 }, {}],
    ["groups of 64", { group: 64 }, {}],
    ["a hidden state of more than 8192", { hidden: 8320 }, {}],
    ["inputs that are no multiple of 128", { intermediate: 11072 }, {}],
    ["outputs that are no multiple of 16", { next: [4096, 4096, 4104] }, {}],
    ["fewer outputs of gate than the hidden state has", { intermediate: 3968 }, {}],
    ["fewer outputs of q, k and v than the hidden state has", { next: [2048, 1024, 1008] }, {}],
    ["too little shared memory", {}, { sharedPerBlock: 131072 }],
    ["more of the residual stream than a block keeps", { hidden: 4096 }, { multiprocessors: 31 }],
  ])("leaves %s to others", (_, change, card) => {
    expect(chainRowsLaunch({ ...LLAMA_7B, ...change }, { ...HOPPER, ...card })).toBeNull();
  });

  it("wants outputs of gate only where there is an o", () => {
    expect(hasChainRowsKernel({ ...LLAMA_7B, attention: 0, intermediate: 0 })).toBe(true);
    expect(hasChainRowsKernel({ ...LLAMA_7B, intermediate: 0 })).toBe(false);
  });
});

describe("chainRowsScratch", () => {
  it("has a packet of eight numbers for each of eight tokens, squares of every row tile, and what x carries", () => {
    const same = { normed: 4096 * 16, squares: 257 * 32, epochs: 256 * 16 };
    expect(chainRowsScratch(LLAMA_7B)).toEqual({ ...same, gated: 11008 * 16, pieces: 256 * 4 * 512 });
    expect(chainRowsScratch({ ...LLAMA_7B, intermediate: 7936 })).toEqual({ ...same, gated: 7936 * 16, pieces: 256 * 512 });
  });
});
