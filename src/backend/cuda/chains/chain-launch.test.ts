import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { StreamingCard } from "../linears/linear-launch.js";
import { SUPERBLOCK, superblockBytes, TILE_ROWS } from "../weights/quantized-layout.js";
import { type ChainShape, type ChainShare, chainHeads, chainLaunch, chainScratch, mostParts } from "./chain-launch.js";

const HOPPER: StreamingCard = { multiprocessors: 132, major: 9, sharedPerBlock: 232448 };
/** What lies ahead of the ring: kChainHeadBytes of linear_chain.cuh. */
const HEAD_BYTES = 768 + 512 * 4;

const shapeOf = (hidden: number, attention: number, intermediate: number, next: readonly number[]): ChainShape => ({
  ...{ bits: 4, group: 128, hidden, attention, intermediate, next },
});
const SHAPES: readonly (readonly [string, ChainShape])[] = [
  ["TinyLlama", shapeOf(2048, 2048, 5632, [2048, 256, 256])],
  ["Qwen 2.5 0.5B", shapeOf(896, 896, 4864, [896, 128, 128])],
  ["Qwen 2.5 7B", shapeOf(3584, 3584, 18944, [3584, 512, 512])],
  ["Qwen 3 4B", shapeOf(2560, 4096, 9728, [4096, 1024, 1024])],
  ["7B", shapeOf(4096, 4096, 11008, [4096, 4096, 4096])],
  ["8B", shapeOf(4096, 4096, 14336, [4096, 1024, 1024])],
  ["13B", shapeOf(5120, 5120, 13824, [5120, 5120, 5120])],
  ["70B", shapeOf(8192, 8192, 28672, [8192, 1024, 1024])],
];

/** Inputs and parts of each linear: row tiles, or pairs of gate's and up's. */
function linearsOf({ hidden, attention, intermediate, next }: ChainShape): readonly { k: number; parts: number }[] {
  const tiles = (n: number) => n / TILE_ROWS;
  return [
    { k: attention, parts: tiles(hidden) },
    { k: hidden, parts: tiles(intermediate) },
    { k: intermediate, parts: tiles(hidden) },
    { k: hidden, parts: next.reduce((sum, n) => sum + tiles(n), 0) },
  ];
}

/** How often the blocks take each superblock of one row tile of each part, as ChainShare in linear_chain.cuh deals them out. */
function taken({ each, more, piecesEach, piecesMore }: ChainShare, { k, parts }: { k: number; parts: number }, grid: number) {
  const superblocks = Math.ceil(k / SUPERBLOCK);
  const count = new Uint8Array(parts * superblocks);
  const take = (part: number, superblock: number) => count[part * superblocks + superblock]!++;
  const divided = piecesEach + piecesMore > 0;
  for (let block = 0; block < grid; block++) {
    for (let t = 0; t < each + (block < more && !divided ? 1 : 0); t++)
      for (let s = 0; s < superblocks; s++) take(t < each ? block * each + t : grid * each + block, s);
    const first = block * piecesEach + Math.min(block, piecesMore);
    for (let piece = first; piece < first + piecesEach + (block < piecesMore ? 1 : 0); piece++)
      take(grid * each + Math.floor(piece / superblocks), piece % superblocks);
  }
  return count;
}

describe("chainLaunch", () => {
  it.each(SHAPES)("deals out everything of %s once, within a block's shared memory", (_, shape) => {
    const launch = chainLaunch(shape, HOPPER)!;
    expect(launch.grid).toBe(HOPPER.multiprocessors);
    linearsOf(shape).forEach((linear, i) => {
      expect(taken(launch.shares[i]!, linear, launch.grid).every((times) => times === 1)).toBe(true);
    });
    const stageBytes = Math.ceil(superblockBytes(4, 128, SUPERBLOCK) / 128) * 128;
    const mostK = Math.max(...linearsOf(shape).map(({ k }) => k));
    expect(launch.stages).toBeGreaterThanOrEqual(8);
    expect(launch.flying).toBeLessThan(launch.stages);
    expect(launch.xAt).toBe(HEAD_BYTES + launch.stages * stageBytes);
    expect(launch.xPitch).toBeGreaterThanOrEqual(mostK);
    expect(launch.spansAt - launch.xAt).toBeGreaterThanOrEqual(2 * launch.xPitch);
    expect(launch.partialAt - launch.spansAt).toBeGreaterThanOrEqual((mostK / 128) * 8);
    expect([launch.xAt, launch.xPitch, launch.spansAt, launch.partialAt].filter((at) => at % 16 !== 0)).toEqual([]);
    expect(launch.shared).toBeGreaterThan(launch.partialAt);
    expect(launch.shared).toBeLessThanOrEqual(HOPPER.sharedPerBlock);
  });

  it("does so whatever the sizes and the card, with packets that the plan has room for", () => {
    const spans = (most: number) => fc.integer({ min: 1, max: most }).map((count) => count * 128);
    const tiles = (most: number) => fc.integer({ min: 1, max: most }).map((count) => count * TILE_ROWS);
    const shapes = fc.record({
      ...{ bits: fc.constant(4 as const), group: fc.constant(128 as const), hidden: spans(64), attention: spans(64) },
      ...{ intermediate: spans(224), next: fc.oneof(fc.constant([]), fc.tuple(tiles(512), tiles(64), tiles(64))) },
    });
    fc.assert(
      fc.property(shapes, fc.integer({ min: 16, max: 144 }), (shape, multiprocessors) => {
        const launch = chainLaunch(shape, { ...HOPPER, multiprocessors });
        if (!launch) return; // too much for so few
        expect(launch.shared).toBeLessThanOrEqual(HOPPER.sharedPerBlock);
        const room = chainScratch(shape);
        expect(launch.grid * 16).toBeLessThanOrEqual(room.epochs);
        linearsOf(shape).forEach((linear, i) => {
          const share = launch.shares[i]!;
          expect(taken(share, linear, launch.grid).every((times) => times === 1)).toBe(true);
          if (share.piecesEach + share.piecesMore === 0) return;
          const pieces = share.more * Math.ceil(linear.k / SUPERBLOCK) * (i === 1 ? 2 : 1);
          expect(pieces * 2 * TILE_ROWS * 8).toBeLessThanOrEqual(room.pieces); // a sum of each half
        });
      }),
    );
  });

  it("deals out each linear the same, whatever is launched with it", () => {
    for (const [, shape] of SHAPES) {
      const { shares } = chainLaunch(shape, HOPPER)!;
      expect(chainLaunch({ ...shape, next: [] }, HOPPER)!.shares.slice(0, 3)).toEqual(shares.slice(0, 3));
      expect(chainLaunch({ ...shape, attention: 0, intermediate: 0 }, HOPPER)!.shares[3]).toEqual(shares[3]);
    }
  });

  it("has nobody take anything of what is not there", () => {
    const { shares } = chainLaunch({ ...SHAPES[4]![1], attention: 0, intermediate: 0 }, HOPPER)!;
    expect(shares[1]).toEqual({ each: 0, more: 0, piecesEach: 0, piecesMore: 0 });
    for (const of of [shares[0], shares[2]]) expect([of.piecesEach, of.piecesMore]).toEqual([0, 0]);
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
    ["too little shared memory", {}, { sharedPerBlock: 65536 }],
    ["a residual stream that is too much for so few blocks", { hidden: 8192 }, { multiprocessors: 8 }],
  ])("leaves %s to others", (_, change, card) => {
    expect(chainLaunch({ ...SHAPES[4]![1], ...change }, { ...HOPPER, ...card })).toBeNull();
  });
});

/** AttentionMemory of linear_chain_attention.cuh. */
function attentionBytes(heads: number, kvHeads: number, dim: number): number {
  const group = heads / kvHeads;
  const queries = 8 * Math.ceil(group / 8) * (dim + 8) * 2;
  return queries + 2 * dim * 2 + 16 * Math.min(group, 8) * (dim + 4) * 4;
}

describe("chainLaunch of whole layers", () => {
  const [, shape] = SHAPES[5]!;

  it.each<[number, number, 64 | 128, string]>([
    [32, 32, 128, "chain_layers_q4_g128_d128"],
    [32, 8, 128, "chain_layers_q4_g128_d128_grouped"],
    [64, 64, 64, "chain_layers_q4_g128_d64"],
    [64, 4, 64, "chain_layers_q4_g128_d64_grouped"],
  ])("%d query heads, %d KV heads of %d: %s", (heads, kvHeads, headDim, name) => {
    const launch = chainLaunch(shape, HOPPER, { heads: { heads, kvHeads, headDim } })!;
    const alone = chainLaunch(shape, HOPPER)!;
    expect(launch.name).toBe(name);
    expect(launch.shares).toEqual(alone.shares);
    expect(launch.shared - launch.xAt).toBeGreaterThanOrEqual(attentionBytes(heads, kvHeads, headDim));
    expect(launch.shared).toBeLessThanOrEqual(HOPPER.sharedPerBlock);
    // Half of the tiles between two of a warp, and of the copies that are under way.
    expect(launch.stages).toBeGreaterThanOrEqual((16 + launch.flyingTiles) / 2);
  });

  it.each(SHAPES)("has room for heads of %s beside the sums that results are still being made of", (_, of) => {
    for (const headDim of [64, 128] as const)
      for (const [heads, kvHeads] of [
        [32, 32],
        [16, 1],
      ] as const) {
        const { xAt, partialAt } = chainLaunch(of, HOPPER, { heads: { heads, kvHeads, headDim } })!;
        const queries = 8 * Math.ceil(heads / kvHeads / 8) * (headDim + 8) * 2;
        expect(partialAt - xAt).toBeGreaterThanOrEqual(queries + 2 * headDim * 2);
      }
  });

  it("keeps them apart where x is smaller than heads", () => {
    const small = shapeOf(128, 128, 256, [2048, 128, 128]);
    const heads = { heads: 16, kvHeads: 1, headDim: 128 } as const;
    const { xAt, partialAt } = chainLaunch(small, HOPPER, { heads })!;
    expect(partialAt - xAt).toBe(16 * 136 * 2 + 2 * 128 * 2);
    expect(chainLaunch(small, HOPPER)!.partialAt - chainLaunch(small, HOPPER)!.xAt).toBeLessThan(partialAt - xAt);
  });

  it("wants stages enough to tell rounds of the ring apart, whatever is under way", () => {
    const heads = { heads: 32, kvHeads: 8, headDim: 128 } as const;
    const least = (flying: number, whole: boolean) => {
      for (let sharedPerBlock = 40_000; ; sharedPerBlock += 256) {
        const launch = chainLaunch(shape, { ...HOPPER, sharedPerBlock }, { flying, ...(whole ? { heads } : {}) });
        if (launch) return launch.stages;
      }
    };
    expect([4, 5, 8].map((flying) => least(flying, true))).toEqual([11, 12, 13]);
    expect([4, 12].map((flying) => least(flying, false))).toEqual([8, 13]);
  });

  it("has a block for each part of every KV head's keys", () => {
    for (let kvHeads = 1; kvHeads <= 132; kvHeads++) {
      const heads = chainHeads({ heads: kvHeads, kvHeads, headDim: 128 })!;
      expect(mostParts(heads)).toBeGreaterThanOrEqual(1);
      expect(mostParts(heads)).toBeLessThanOrEqual(32);
      expect(mostParts(heads) * kvHeads).toBeLessThanOrEqual(HOPPER.multiprocessors);
    }
  });

  it.each([
    ["heads of 96", { heads: 32, kvHeads: 32, headDim: 96 }],
    ["more KV heads than multiprocessors", { heads: 133, kvHeads: 133, headDim: 64 }],
    ["more query heads to a KV head than there is room for", { heads: 17, kvHeads: 1, headDim: 64 }],
  ])("leaves %s to others", (_, attention) => {
    expect(chainHeads(attention)).toBeNull();
  });

  it("cuts keys into fewer parts on cards with fewer multiprocessors, never into more than the plan has room for", () => {
    const heads = { heads: 32, kvHeads: 8, headDim: 128 } as const;
    for (const [multiprocessors, parts] of [
      [78, 9],
      [114, 14],
      [132, 16],
      [144, 16],
    ] as const)
      expect(chainLaunch(shape, { ...HOPPER, multiprocessors }, { heads })!.parts).toBe(parts);
    expect(mostParts(heads)).toBe(16);
  });

  it("leaves cards with fewer multiprocessors than KV heads to others", () => {
    const heads = { heads: 80, kvHeads: 80, headDim: 64 } as const;
    expect(chainLaunch(shape, { ...HOPPER, multiprocessors: 78 }, { heads })).toBeNull();
  });
});

describe("chainScratch", () => {
  it("has a packet for four numbers of the residual stream and for eight that go into down", () => {
    const scratch = chainScratch(SHAPES[4]![1]);
    expect(scratch).toMatchObject({ sums: (4096 / 4) * 16, gated: (11008 / 8) * 16 });
    expect(Object.values(scratch).reduce((sum, bytes) => sum + bytes, 0)).toBeLessThan(800 * 1024);
    expect(scratch).toMatchObject({ heads: 0, gathered: 0, parts: 0 });
  });

  it("has a packet for two numbers of q, k, v, for eight that heads gather, and for each of a part's sums", () => {
    const scratch = chainScratch(SHAPES[5]![1], { heads: 32, kvHeads: 8, headDim: 128 });
    expect(scratch).toMatchObject({ heads: (32 + 16) * 64 * 8, gathered: 32 * 16 * 16, parts: 32 * 16 * 130 * 8 });
  });
});
