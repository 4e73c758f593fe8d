// Who reads what of whom in kernels/linear_chain_rows.cu, followed block by block and warp by warp for any launch that there may be: whether all of it is
// multiplied once, whether a warp can take a round of the ring for another, and whether packets are written again only by who knows that they were read.

import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { SUPERBLOCK, TILE_ROWS } from "../weights/quantized-layout.js";
import type { ChainShape } from "./chain-launch.js";
import { stageMagic } from "./chain-parameters.js";
import { type ChainRowsLaunch, chainRowsLaunch } from "./chain-rows-launch.js";

const WARPS = 16;
const QUARTERS = 4;
/** Superblocks of x in shared memory at a time: kPartSuperblocks. */
const PART = 4;
/** A warp comes to every eighth superblock at least, says linear_chain.cu. */
const STRIDE = 8;
const [OUTPUT, GATE_UP, DOWN, NEXT] = [0, 1, 2, 3] as const;

/** A block's RowsShare. */
interface Share {
  /** Of the blocks that have the same row tiles. */
  readonly group: readonly number[];
  /** Indices of row tiles, or of pairs; those whose results are the block's. */
  readonly parts: readonly number[];
  readonly own: readonly number[];
  /** Row tiles in the ring. */
  readonly tiles: number;
  /** Inputs, in superblocks. */
  readonly first: number;
  readonly end: number;
}

function shareOf({ grid, splitBits, shares }: ChainRowsLaunch, shape: ChainShape, linear: number, block: number): Share {
  const bits = linear === OUTPUT || linear === DOWN ? splitBits : 0;
  const { each, more } = shares[linear]!;
  const [groups, group, split] = [grid >> bits, block >> bits, block & ((1 << bits) - 1)];
  const count = group < groups ? each + (group < more ? 1 : 0) : 0;
  const parts = Array.from({ length: count }, (_, t) => (t < each ? group * each + t : groups * each + group));
  const superblocks = Math.ceil([shape.attention, shape.hidden, shape.intermediate, shape.hidden][linear]! / SUPERBLOCK);
  return {
    group: Array.from({ length: 1 << bits }, (_, i) => (group << bits) + i),
    parts,
    own: parts.filter((_, t) => (t & ((1 << bits) - 1)) === split),
    tiles: count * (linear === GATE_UP ? 2 : 1),
    first: (superblocks * split) >> bits,
    end: (superblocks * (split + 1)) >> bits,
  };
}

/** Superblocks of the ring that a warp multiplies a quarter of, part by part of x, as rows_products() comes to them: RowsPlace. */
function* visits(warp: number, tiles: number, superblocks: number, place: number): Generator<number> {
  const ways = tiles <= 4 ? 2 * QUARTERS : QUARTERS;
  const step = WARPS / ways;
  const first = ways === QUARTERS ? 0 : Math.floor(warp / QUARTERS) % 2;
  for (let i = first; i < superblocks; i += ways / QUARTERS)
    for (let tile = Math.floor(warp / ways); tile < tiles; tile += step) yield place + i * tiles + tile;
}

/** One block's way through the ring. */
function followRing({ stages }: ChainRowsLaunch, shares: readonly Share[]): void {
  let place = 0;
  for (const { tiles, first, end } of shares.filter((share) => share.tiles > 0)) {
    expect(end).toBeGreaterThan(first);
    for (let done = first; done < end; done += PART) {
      const superblocks = Math.min(PART, end - done);
      const taken = new Uint8Array(superblocks * tiles);
      let apart = 0;
      for (let warp = 0; warp < WARPS; warp++) {
        let before = place - 1; // the block has met
        for (const at of visits(warp, tiles, superblocks, place)) {
          apart = Math.max(apart, at - before);
          // Twice would be seen as another number.
          taken[at - place]! += 1 << (2 * (warp % QUARTERS));
          before = at;
        }
      }
      expect(apart).toBeLessThanOrEqual(Math.min(STRIDE, stages));
      expect(taken.every((quarters) => quarters === 0b01010101)).toBe(true);
      place += tiles * superblocks;
    }
  }
  // As kernels divide by the stages, in 32 bits.
  const magic = stageMagic(stages);
  expect(place * magic).toBeLessThan(2 ** 32);
  for (let at = 0; at < place; at++)
    if (Math.floor((at * magic) / 2 ** 20) !== Math.floor(at / stages)) expect(at).toBe("divided");
}

/** What all blocks send each other in a link. */
function followPackets(launch: ChainRowsLaunch, shape: ChainShape): void {
  const sharesOf = (linear: number) => Array.from({ length: launch.grid }, (_, block) => shareOf(launch, shape, linear, block));
  const [output, gateUp, down, next] = [OUTPUT, GATE_UP, DOWN, NEXT].map(sharesOf) as [Share[], Share[], Share[], Share[]];
  const having = (shares: readonly Share[]) => new Set(shares.flatMap(({ tiles }, block) => (tiles > 0 ? [block] : [])));
  // Every tile of the residual stream is made by one block, which has it in o and in down.
  const makers = output.flatMap(({ own }, block) => own.map((part): [number, number] => [part, block]));
  expect(makers.map(([part]) => part).sort((a, b) => a - b)).toEqual(
    Array.from({ length: shape.hidden / TILE_ROWS }, (_, i) => i),
  );
  expect(down.map(({ own }) => own)).toEqual(output.map(({ own }) => own));
  // What x carries is told by block 0, in every linear that makes the residual stream, and by the maker of the first tile.
  expect(makers.find(([part]) => part === 0)![1]).toBe(0);
  // Attention's output is read no more when all of the next x is there: of each tile, by all who have it.
  expect(new Set(makers.flatMap(([, block]) => output[block]!.group))).toEqual(having(output));
  // Who hears of a norm hears of all tiles, and so that all pieces of o have been added: pieces of down may lie in their places.
  for (const block of having(down)) expect(having(gateUp)).toContain(block);
  const gatedBy = new Map(gateUp.flatMap(({ parts }, block) => parts.map((part): [number, number] => [part, block])));
  expect(gatedBy.size).toBe(shape.intermediate / TILE_ROWS);
  // Behind down packets of the norm ahead of gate and up are written again: by blocks that have heard of all who read them.
  const heard = down.map(({ first, end, tiles }) => {
    const perSuperblock = SUPERBLOCK / TILE_ROWS;
    const parts = tiles > 0 ? Math.min(end * perSuperblock, gatedBy.size) - first * perSuperblock : 0;
    return new Set(Array.from({ length: parts }, (_, i) => gatedBy.get(first * perSuperblock + i)!));
  });
  for (const [, block] of makers)
    expect(new Set(down[block]!.group.flatMap((other) => [...heard[other]!]))).toEqual(having(gateUp));
  if (shape.next.length > 0) expect(having(next)).toContain(0); // tells what it leaves
}

function follow(shape: ChainShape, multiprocessors: number): void {
  const card = { multiprocessors, major: 9, sharedPerBlock: 232448 };
  const launch = chainRowsLaunch(shape, card);
  if (!launch) return;
  const linears = [...(shape.attention > 0 ? [OUTPUT, GATE_UP, DOWN] : []), ...(shape.next.length > 0 ? [NEXT] : [])];
  const blocks = Array.from({ length: launch.grid }, (_, block) => linears.map((i) => shareOf(launch, shape, i, block)));
  // Most have the same to do.
  const kinds = new Map(blocks.map((shares) => [shares.map(({ tiles, first, end }) => [tiles, end - first]).join(), shares]));
  for (const shares of kinds.values()) followRing(launch, shares);
  if (shape.attention > 0) followPackets(launch, shape);
}

const shapeOf = (hidden: number, attention: number, intermediate: number, next: readonly number[]): ChainShape => ({
  ...{ bits: 4, group: 128, hidden, attention, intermediate, next },
});

describe("blocks of a chain of few tokens", () => {
  it.each<[string, ChainShape]>([
    ["the smallest", shapeOf(128, 256, 384, [128, 64, 64])],
    ["Qwen 2.5 0.5B", shapeOf(896, 896, 4864, [896, 128, 128])],
    ["TinyLlama", shapeOf(2048, 2048, 5632, [2048, 256, 256])],
    ["7B", shapeOf(4096, 4096, 11008, [4096, 4096, 4096])],
    ["8B", shapeOf(4096, 4096, 14336, [4096, 1024, 1024])],
    ["13B", shapeOf(5120, 5120, 13824, [5120, 5120, 5120])],
    ["70B", shapeOf(8192, 8192, 28672, [8192, 1024, 1024])],
  ])("multiply all of %s once and wait for nothing that does not come", (_, shape) => {
    for (const multiprocessors of [78, 114, 132]) {
      follow(shape, multiprocessors);
      follow({ ...shape, next: [] }, multiprocessors);
      follow({ ...shape, attention: 0, intermediate: 0 }, multiprocessors);
    }
  });

  it("do so whatever the sizes and the card", () => {
    const spans = (most: number) => fc.integer({ min: 1, max: most }).map((count) => count * 128);
    const tiles = (most: number) => fc.integer({ min: 1, max: most }).map((count) => count * TILE_ROWS);
    const next = fc.oneof(fc.constant([]), fc.tuple(tiles(512), tiles(256), tiles(256)));
    const shapes = fc.tuple(spans(64), spans(96), spans(264), next).map((sizes) => shapeOf(...sizes));
    fc.assert(fc.property(shapes, fc.integer({ min: 16, max: 144 }), follow));
  });
});
