import { describe, expect, it } from "vitest";
import { CHAIN_LAYER, CHAIN_ROWS, CHAIN_SHAPE } from "./chain-layouts.js";
import type { ChainLayerPlaces } from "./chain-parameters.js";
import { chainRowsLaunch } from "./chain-rows-launch.js";
import { chainRowsParameters } from "./chain-rows-parameters.js";

const card = { multiprocessors: 132, major: 9, sharedPerBlock: 232448 };
const shape = { bits: 4, group: 128, hidden: 4096, attention: 4096, intermediate: 11008, next: [4096, 1024, 1024] } as const;
const launch = chainRowsLaunch(shape, card)!;
const buffers = { residual: 1n, normed: 8n, squares: 9n, gated: 10n, pieces: 11n, epochs: 12n, eps: 0.5 };
const ends = { attention: 2n, y: [3n, 4n, 5n], carried: 6n, left: 7n, rows: 5 };
/** Addresses 100 n, 100 n + 1, … */
const layer = (n: number): ChainLayerPlaces =>
  Object.fromEntries(
    Object.entries(CHAIN_LAYER.fields).map(([name, kind], i) => [name, kind === "u64" ? BigInt(100 * n + i) : 0]),
  ) as ChainLayerPlaces;

/** ChainRowsParams of chain_rows.cuh: shapes of four linears, twelve pointers, ten words, two layers. */
const BYTES = 616;
const POINTERS_AT = 128;
const WORDS_AT = POINTERS_AT + 96;
const LAYERS_AT = WORDS_AT + 40;
const pointers = (bytes: Uint8Array, at: number, count: number) => [
  ...new BigUint64Array(bytes.slice(at, at + count * 8).buffer),
];
const numbers = (bytes: Uint8Array, at: number, count: number) => [...new Int32Array(bytes.slice(at, at + count * 4).buffer)];

describe("chainRowsParameters", () => {
  const bytes = chainRowsParameters(launch, shape, buffers, ends, layer(1), layer(2));

  it("take as much as the kernel declares", () => {
    expect(4 * CHAIN_SHAPE.bytes + CHAIN_ROWS.bytes + 2 * CHAIN_LAYER.bytes).toBe(BYTES);
    expect(bytes).toHaveLength(BYTES);
  });

  it("begin with each linear and its share", () => {
    expect(numbers(bytes, CHAIN_SHAPE.bytes, 4)).toEqual([11008, 11008, 0, 4096]);
    expect(numbers(bytes, 3 * CHAIN_SHAPE.bytes, 4)).toEqual([...shape.next, 4096]);
    launch.shares.forEach(({ each, more }, i) => {
      expect(numbers(bytes, i * CHAIN_SHAPE.bytes + 16, 4)).toEqual([each, more, 0, 0]);
    });
  });

  it("go on with buffers and what is around the link, then say where what lies in shared memory", () => {
    expect(pointers(bytes, POINTERS_AT, 12)).toEqual([1n, 2n, 3n, 4n, 5n, 6n, 7n, 8n, 9n, 10n, 11n, 12n]);
    expect(new DataView(bytes.buffer).getFloat32(WORDS_AT, true)).toBe(0.5);
    expect(numbers(bytes, WORDS_AT + 4, 9)).toEqual([
      ...[5, 0, 2, launch.stages, Math.ceil(2 ** 20 / launch.stages), launch.xAt, launch.sumsAt, launch.flying, 2],
    ]);
  });

  it.each<[string, ChainLayerPlaces | null, ChainLayerPlaces | null, number[], bigint[]]>([
    ["a layer and the next", layer(1), layer(2), [0, 2], [100n, 200n]],
    ["a layer alone", layer(1), null, [0, 1], [100n, 0n]],
    ["what comes before the first layer", null, layer(2), [-1, 1], [200n, 0n]],
  ])("tell of %s", (_, after, next, links, firsts) => {
    const of = { ...shape, ...(after ? {} : { attention: 0, intermediate: 0 }), next: next ? shape.next : [] };
    const some = chainRowsParameters(chainRowsLaunch(of, card)!, of, buffers, { ...ends, y: next ? ends.y : [] }, after, next);
    expect(numbers(some, WORDS_AT + 8, 2)).toEqual(links);
    expect(pointers(some, POINTERS_AT + 16, 3)).toEqual(next ? ends.y : [0n, 0n, 0n]);
    expect([0, 1].map((i) => pointers(some, LAYERS_AT + i * CHAIN_LAYER.bytes, 1)[0])).toEqual(firsts);
    // The residual stream is dealt out and its width is known, also where there is no o.
    expect(numbers(some, 0, 1)).toEqual([4096]);
    expect(numbers(some, CHAIN_SHAPE.bytes + 12, 1)).toEqual([4096]);
    expect(numbers(some, 16, 2)).toEqual(after ? [256 / 33, 256 % 33].map(Math.floor) : [1, 256 - 132]);
  });
});
