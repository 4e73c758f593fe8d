// What every contiguous run of layers would cost on a device: the same bytes as layout(), found
// by adding up what is shared. Layers of the same shape share their sums, so that a search
// over contexts asks the packing a few hundred times, not a few million. Rests on one promise
// of a packing: sizes depend on shapes, never on names or on a layer's index.

import type { GatedMlpSpec, LayerSpec, LinearSpec, ModelSpec } from "../model/spec.js";
import { poolTokens } from "./cache-groups.js";
import type { Packing, RegionSize, RunShape, StageShape } from "./packing.js";
import { roundUp } from "./size.js";

/** Bytes of layers i … j − 1 (with the embedding where i = 0, the head where j = all) at `[i * (layers + 1) + j]`; Infinity where none can. */
export type CostTable = Float64Array;

/** Costs of one model under one packing, for any run shape. */
export class StageCosts {
  readonly layerCount: number;
  readonly #spec: ModelSpec;
  readonly #packing: Packing;
  /** Shape class of each layer, and the first layer of each class. */
  readonly #classOf: number[];
  readonly #examples: LayerSpec[] = [];
  readonly #layerWeights: number[];
  readonly #embedding: number;
  readonly #head: number;
  readonly #sharedHead: number;
  readonly #header: number;
  /** Id of the class sequence of layers i … j − 1 at `[i * (layers + 1) + j]`; equal sequences share an id. */
  readonly #sequenceOf: Int32Array;
  readonly #sequences: number;

  constructor(spec: ModelSpec, packing: Packing) {
    this.#spec = spec;
    this.#packing = packing;
    this.layerCount = spec.layers.length;
    this.#classOf = this.#classify();
    const aligned = (sizes: readonly RegionSize[]) => alignedSum(sizes, packing.alignment);
    this.#layerWeights = this.#examples.map((layer) => aligned(packing.layer(spec, layer)));
    const onDevice = packing.embeddings === "device";
    this.#embedding = onDevice ? aligned(packing.embedding(spec)) : 0;
    this.#head = aligned(packing.head(spec, false));
    this.#sharedHead = onDevice && spec.tiedEmbeddings ? aligned(packing.head(spec, true)) : this.#head;
    this.#header = roundUp(packing.arenaHeader, packing.alignment);
    ({ ids: this.#sequenceOf, count: this.#sequences } = sequenceIds(this.#classOf));
  }

  /** Costs of every run of layers for this run shape. */
  table(run: RunShape): CostTable {
    const arena = this.#arenaSizes(run);
    const most = this.#packing.maxArena;
    const all = this.layerCount;
    const table = new Float64Array((all + 1) * (all + 1)).fill(Number.POSITIVE_INFINITY);
    for (let first = 0; first < all; first++) {
      let closed = 0; // arenas before the open one
      let begin = first; // first layer of the open arena
      let embedding = first === 0;
      for (let end = first + 1; end <= all; end++) {
        let open = arena(begin, end, embedding, false);
        if (open > most) {
          if (end - 1 > begin || embedding) closed += arena(begin, end - 1, embedding, false);
          if (embedding && end - 1 === begin && closed > most) break; // the embedding alone is too large
          begin = end - 1;
          embedding = false;
          open = arena(begin, end, false, false);
          if (open > most) break; // and so is every longer run
        }
        if (end < all) table[first * (all + 1) + end] = closed + open;
        else table[first * (all + 1) + end] = closed + lastArena(arena, begin, all, embedding, most);
      }
    }
    return table;
  }

  /** The whole model on one device. */
  whole(run: RunShape): number {
    return this.table(run)[this.layerCount]!;
  }

  /** A function that says what an arena with these contents takes, rounded to the granularity. */
  #arenaSizes(run: RunShape): ArenaSize {
    const { alignment, granularity } = this.#packing;
    const perClass = this.#examples.map(
      (layer, index) =>
        this.#layerWeights[index]! + alignedSum(this.#packing.kv(layer, poolTokens(layer, run), run.cacheType), alignment),
    );
    const sums = new Float64Array(this.layerCount + 1);
    for (let layer = 0; layer < this.layerCount; layer++) sums[layer + 1] = sums[layer]! + perClass[this.#classOf[layer]!]!;

    const scratchOf = new Float64Array(this.#sequences * 4).fill(-1);
    const scratch = (begin: number, end: number, first: boolean, last: boolean): number => {
      const key = this.#sequenceOf[begin * (this.layerCount + 1) + end]! * 4 + (first ? 2 : 0) + (last ? 1 : 0);
      if (scratchOf[key]! < 0) {
        const stage: StageShape = { layers: this.#spec.layers.slice(begin, end), first, last };
        scratchOf[key] = alignedSum(this.#packing.scratch(this.#spec, stage, run), alignment);
      }
      return scratchOf[key]!;
    };

    return (begin, end, embedding, head) => {
      let bytes = this.#header + sums[end]! - sums[begin]! + scratch(begin, end, embedding, head);
      if (embedding) bytes += this.#embedding;
      if (head) bytes += embedding ? this.#sharedHead : this.#head;
      return roundUp(bytes, granularity);
    };
  }

  #classify(): number[] {
    const classes = new Map<string, number>();
    return this.#spec.layers.map((layer) => {
      const shape = shapeOf(layer);
      let id = classes.get(shape);
      if (id === undefined) {
        id = classes.size;
        classes.set(shape, id);
        this.#examples.push(layer);
      }
      return id;
    });
  }
}

type ArenaSize = (begin: number, end: number, embedding: boolean, head: boolean) => number;

/** The open arena with the head, or followed by one for the head alone. */
function lastArena(arena: ArenaSize, begin: number, all: number, embedding: boolean, most: number): number {
  const together = arena(begin, all, embedding, true);
  if (together <= most) return together;
  const alone = arena(all, all, false, true);
  return alone <= most ? arena(begin, all, embedding, false) + alone : Number.POSITIVE_INFINITY;
}

function alignedSum(sizes: readonly RegionSize[], alignment: number): number {
  let sum = 0;
  for (const { bytes } of sizes) sum += roundUp(bytes, alignment);
  return sum;
}

/** Everything of a layer that a size may depend on: all but its index and its tensors' names. */
function shapeOf(layer: LayerSpec): string {
  const { attention, mlp } = layer;
  const { heads, kvHeads, headDim, window, q, k, v, o, qNorm, kNorm } = attention;
  return JSON.stringify([
    [heads, kvHeads, headDim, window, [q, k, v, o].map(linearShape)],
    [layer.inputNorm.size, layer.postAttentionNorm.size, qNorm?.size, kNorm?.size],
    mlp.kind === "gated" ? gatedShape(mlp) : [linearShape(mlp.router), mlp.experts.map(gatedShape)],
  ]);
}

function gatedShape(mlp: GatedMlpSpec) {
  return [mlp.gate, mlp.up, mlp.down].map(linearShape);
}

function linearShape({ in: inputs, out, bias, format }: LinearSpec) {
  return [inputs, out, bias, format];
}

/** Numbers every contiguous sequence of classes so that equal sequences get equal numbers (a trie, walked from each start). */
function sequenceIds(classOf: readonly number[]): { ids: Int32Array; count: number } {
  const all = classOf.length;
  const ids = new Int32Array((all + 1) * (all + 1));
  const children: Map<number, number>[] = [new Map()];
  for (let first = 0; first <= all; first++) {
    let node = 0;
    for (let end = first + 1; end <= all; end++) {
      let next = children[node]!.get(classOf[end - 1]!);
      if (next === undefined) {
        next = children.length;
        children.push(new Map());
        children[node]!.set(classOf[end - 1]!, next);
      }
      node = next;
      ids[first * (all + 1) + end] = node;
    }
  }
  return { ids, count: children.length };
}
