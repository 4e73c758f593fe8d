// For one run shape: the bytes of any contiguous run of layers on a device, arenas, headers,
// scratch and rounding included. The same walk as layout()'s, over sums instead of regions.

import { roundUp } from "./size.js";

/** Bytes of layers i … j − 1 (with the embedding where i = 0, the head where j = all) at `[i * (layers + 1) + j]`; Infinity where none can. */
export type CostTable = Float64Array;

/** Bytes of an arena, or of its scratch, with layers begin … end − 1. */
export type ArenaSize = (begin: number, end: number, embedding: boolean, head: boolean) => number;

/** What of a model does not depend on the run shape; see StageCosts. */
interface Parts {
  readonly layerCount: number;
  readonly packing: { readonly maxArena: number; readonly granularity: number };
  readonly header: number;
  readonly embedding: number;
  readonly head: number;
  readonly headBesideEmbedding: number;
}

export class RunCosts {
  readonly #parts: Parts;
  readonly #sums: Float64Array;
  readonly #scratch: ArenaSize;
  readonly #captured: (begin: number, end: number) => number;

  /**
   * @param sums weights and KV of the layers before each layer, `[layers + 1]`
   * @param captured bytes beside the arenas of a stage with layers begin … end − 1
   */
  constructor(parts: Parts, sums: Float64Array, scratch: ArenaSize, captured: (begin: number, end: number) => number) {
    this.#parts = parts;
    this.#sums = sums;
    this.#scratch = scratch;
    this.#captured = captured;
  }

  /** No placement takes less than this, all devices together. */
  get least(): number {
    const { embedding, head, headBesideEmbedding, layerCount } = this.#parts;
    return this.#sums[layerCount]! + embedding + Math.min(head, headBesideEmbedding);
  }

  /** Costs of every run of layers. */
  table(): CostTable {
    const width = this.#parts.layerCount + 1;
    const table = new Float64Array(width * width).fill(Number.POSITIVE_INFINITY);
    for (let first = 0; first + 1 < width; first++)
      this.#fillRow(first, width - 1, table.subarray(first * width, (first + 1) * width));
    return table;
  }

  /** One entry of the table; Infinity where a layer is larger than an arena may be. */
  stage(first: number, count: number): number {
    if (this.#parts.packing.maxArena === Number.POSITIVE_INFINITY)
      return (
        this.#arena(first, first + count, first === 0, first + count === this.#parts.layerCount) +
        this.#captured(first, first + count)
      );
    const row = new Float64Array(this.#parts.layerCount + 1).fill(Number.POSITIVE_INFINITY);
    this.#fillRow(first, first + count, row);
    return row[first + count]!;
  }

  /** Costs of layers first … end − 1 for every end up to `last`: first-fit, arena after arena. */
  #fillRow(first: number, last: number, row: Float64Array): void {
    const { layerCount, packing } = this.#parts;
    let closed = 0; // bytes of the arenas before the open one
    let begin = first; // first layer of the open arena
    let embedding = first === 0;
    for (let end = first + 1; end <= last; end++) {
      let open = this.#arena(begin, end, embedding, false);
      if (open > packing.maxArena) {
        if (end - 1 > begin || embedding) closed += this.#arena(begin, end - 1, embedding, false);
        if (end - 1 === begin && closed > packing.maxArena) return; // the embedding alone is too large
        begin = end - 1;
        embedding = false;
        open = this.#arena(begin, end, false, false);
        if (open > packing.maxArena) return; // this layer alone is, and so is every longer run
      }
      row[end] = closed + (end < layerCount ? open : this.#lastArenas(begin, embedding)) + this.#captured(first, end);
    }
  }

  /** The open arena with the head, or followed by one for the head alone. */
  #lastArenas(begin: number, embedding: boolean): number {
    const { layerCount, packing } = this.#parts;
    const together = this.#arena(begin, layerCount, embedding, true);
    if (together <= packing.maxArena) return together;
    const alone = this.#arena(layerCount, layerCount, false, true);
    return alone <= packing.maxArena ? this.#arena(begin, layerCount, embedding, false) + alone : Number.POSITIVE_INFINITY;
  }

  #arena(begin: number, end: number, embedding: boolean, head: boolean): number {
    const parts = this.#parts;
    let bytes = parts.header + this.#sums[end]! - this.#sums[begin]! + this.#scratch(begin, end, embedding, head);
    if (embedding) bytes += parts.embedding;
    if (head) bytes += embedding ? parts.headBesideEmbedding : parts.head;
    return roundUp(bytes, parts.packing.granularity);
  }
}
