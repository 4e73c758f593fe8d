import { describe, expect, it } from "vitest";
import { chainLaunch } from "./chain-launch.js";
import { CHAIN, CHAIN_ATTENTION, CHAIN_ENDS, CHAIN_LAYER, CHAIN_SHAPE } from "./chain-layouts.js";
import { type ChainLayerPlaces, chainLayersParameters, chainParameters, MOST_CHAIN_LAYERS } from "./chain-parameters.js";

const card = { multiprocessors: 132, major: 9, sharedPerBlock: 232448 };
const shape = { bits: 4, group: 128, hidden: 4096, attention: 4096, intermediate: 11008, next: [4096, 1024, 1024] } as const;
const launch = chainLaunch(shape, card)!;
const buffers = { residual: 1n, sums: 2n, gated: 3n, pieces: 4n, epochs: 5n, eps: 0.5 };
const ends = { attention: 6n, y: [7n, 8n, 9n] };
const heads = { heads: 32, kvHeads: 8, headDim: 128 } as const;
const attention = { shape: heads, table: 10n, position: 11n, heads: 12n, gathered: 13n, parts: 14n, headEps: 0.25 };
/** Addresses 100 n, 100 n + 1, …, and a window of n. */
const layer = (n: number): ChainLayerPlaces =>
  Object.fromEntries(
    Object.entries(CHAIN_LAYER.fields).map(([name, kind], i) => [
      name,
      kind === "u64" ? BigInt(100 * n + i) : name === "window" ? n : 0,
    ]),
  ) as ChainLayerPlaces;

const shapesAt = CHAIN.bytes;
const middleAt = shapesAt + 4 * CHAIN_SHAPE.bytes;
const pointers = (bytes: Uint8Array, at: number, count: number) => [
  ...new BigUint64Array(bytes.slice(at, at + count * 8).buffer),
];
const numbers = (bytes: Uint8Array, at: number, count: number) => [...new Int32Array(bytes.slice(at, at + count * 4).buffer)];
/** What follows the pointers of CHAIN: eps apart, firstLink, links, layers. */
const links = (bytes: Uint8Array) => numbers(bytes, 44, 3);

describe("chainParameters", () => {
  const bytes = chainParameters(launch, shape, buffers, ends, layer(1), layer(2));

  it("begin with buffers, then say where what lies in shared memory", () => {
    expect(pointers(bytes, 0, 5)).toEqual([1n, 2n, 3n, 4n, 5n]);
    expect(new DataView(bytes.buffer).getFloat32(40, true)).toBe(0.5);
    expect(numbers(bytes, 56, 8)).toEqual([
      ...[launch.stages, Math.ceil(2 ** 20 / launch.stages), launch.xAt, launch.spansAt, launch.partialAt],
      ...[launch.xPitch, launch.flying, launch.flyingTiles],
    ]);
  });

  it("then have each linear with its share, and what is around them", () => {
    expect(numbers(bytes, shapesAt + CHAIN_SHAPE.bytes, 4)).toEqual([11008, 11008, 0, 4096]);
    expect(numbers(bytes, shapesAt + 3 * CHAIN_SHAPE.bytes, 4)).toEqual([...shape.next, 4096]);
    launch.shares.forEach(({ each, more, piecesEach, piecesMore }, i) => {
      expect(numbers(bytes, shapesAt + i * CHAIN_SHAPE.bytes + 16, 4)).toEqual([each, more, piecesEach, piecesMore]);
    });
    expect(pointers(bytes, middleAt, 4)).toEqual([6n, 7n, 8n, 9n]);
  });

  it.each<[string, ChainLayerPlaces | null, ChainLayerPlaces | null, number[], bigint[]]>([
    ["between two attentions", layer(1), layer(2), [0, 1, 2], [100n, 200n]],
    ["behind the last", layer(1), null, [0, 1, 1], [100n, 0n]],
    ["ahead of the first", null, layer(2), [-1, 1, 1], [200n, 0n]],
  ])("name the layers %s", (_, after, next, expected, first) => {
    const bytes = chainParameters(launch, shape, buffers, ends, after, next);
    expect(bytes).toHaveLength(middleAt + CHAIN_ENDS.bytes + 2 * CHAIN_LAYER.bytes);
    expect(links(bytes)).toEqual(expected);
    expect([0, 1].map((i) => pointers(bytes, middleAt + CHAIN_ENDS.bytes + i * CHAIN_LAYER.bytes, 1)[0])).toEqual(first);
  });

  it("divide a block's superblocks by the stages of the ring with a multiplication of 32 bits", () => {
    for (let stages = 8; stages <= 24; stages++) {
      const [magic] = numbers(chainParameters({ ...launch, stages }, shape, buffers, ends, layer(1), null), 60, 1);
      const wrong = Array.from({ length: 32000 }, (_, i) => i).filter(
        (i) => Math.imul(i, magic!) >>> 20 !== Math.floor(i / stages),
      );
      expect(wrong).toEqual([]);
    }
  });
});

describe("chainLayersParameters", () => {
  const whole = chainLaunch(shape, card, { heads })!;
  const layers = [layer(1), layer(2), layer(3)];
  const bytes = chainLayersParameters(whole, shape, buffers, attention, layers);

  it("go from q, k and v of the first layer to down of the last", () => {
    expect(links(bytes)).toEqual([-1, 4, 3]);
  });

  it("have attention behind the linears, then all of each layer", () => {
    expect(pointers(bytes, middleAt, 5)).toEqual([10n, 11n, 12n, 13n, 14n]);
    expect(numbers(bytes, middleAt + 40, 4)).toEqual([32, 8, 4, 16]);
    const [scale, eps] = new Float32Array(bytes.slice(middleAt + 56, middleAt + 64).buffer);
    expect([scale, eps]).toEqual([Math.fround(Math.LOG2E / Math.sqrt(128)), 0.25]);
    layers.forEach((_, i) => {
      const at = middleAt + CHAIN_ATTENTION.bytes + i * CHAIN_LAYER.bytes;
      expect(pointers(bytes, at, 21)).toEqual(Array.from({ length: 21 }, (_, field) => BigInt(100 * (i + 1) + field)));
      expect(numbers(bytes, at + 168, 1)).toEqual([i + 1]);
    });
  });

  it("are as long as the kernel's structure, however many layers there are", () => {
    expect(bytes).toHaveLength(middleAt + CHAIN_ATTENTION.bytes + MOST_CHAIN_LAYERS * CHAIN_LAYER.bytes);
  });
});
