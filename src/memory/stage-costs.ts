// What every contiguous run of layers would cost on a device: the same bytes as layout(), found
// by adding up what is shared. Layers of the same shape share their sums, so that a search
// over contexts asks the packing a few hundred times, not a few million. Rests on two promises
// of a packing: sizes depend on shapes, never on names or on a layer's index; and scratch
// depends on which shapes of layers there are, not on how many.

import type { LayerSpec, ModelSpec } from "../model/spec.js";
import { poolTokens } from "./cache-groups.js";
import type { Packing, RegionSize, RunShape, StageShape } from "./packing.js";
import { type ArenaSize, RunCosts } from "./run-costs.js";
import { roundUp } from "./size.js";

/** What a model's parts cost under one packing, whatever the run shape. */
export class StageCosts {
  readonly layerCount: number;
  readonly packing: Packing;
  readonly header: number;
  /** 0 where embeddings stay on the host. */
  readonly embedding: number;
  readonly head: number;
  /** The head in an arena that also has the embedding. */
  readonly headBesideEmbedding: number;
  readonly #spec: ModelSpec;
  /** Shape class of each layer, and the first layer of each class. */
  readonly #classOf: number[];
  readonly #examples: LayerSpec[] = [];
  readonly #layerWeights: number[];
  /** Id of the set of classes among layers i … j − 1 at `[i * (layers + 1) + j]`. */
  readonly #setOf: Int32Array;
  /** One layer of each class in a set, by the set's id. */
  readonly #sets: LayerSpec[][];

  constructor(spec: ModelSpec, packing: Packing) {
    this.#spec = spec;
    this.packing = packing;
    this.layerCount = spec.layers.length;
    this.#classOf = this.#classify();
    ({ ids: this.#setOf, sets: this.#sets } = classSets(this.#classOf, this.#examples));
    const aligned = (sizes: readonly RegionSize[]) => alignedSum(sizes, packing.alignment);
    this.#layerWeights = this.#examples.map((layer) => aligned(packing.layer(spec, layer)));
    const onDevice = packing.embeddings === "device";
    this.header = roundUp(packing.arenaHeader, packing.alignment);
    this.embedding = onDevice ? aligned(packing.embedding(spec)) : 0;
    this.head = aligned(packing.head(spec, false));
    this.headBesideEmbedding = onDevice && spec.tiedEmbeddings ? aligned(packing.head(spec, true)) : this.head;
  }

  /**
   * Whether no run of layers takes more than a run that contains it: arenas have no bound, and all layers are alike (of layers that
   * are not, a packing may have buffers that it has for neither kind together).
   */
  get growing(): boolean {
    return this.packing.maxArena === Number.POSITIVE_INFINITY && this.#examples.length === 1;
  }

  /** The same for one run shape. */
  of(run: RunShape): RunCosts {
    return new RunCosts(this, this.#layerSums(run), this.#scratchSizes(run), this.#captured(run));
  }

  /** What the driver takes for captured steps of layers i … j − 1: the same on every way through the table. */
  #captured(run: RunShape): (begin: number, end: number) => number {
    const { captured } = this.packing;
    if (!captured) return () => 0;
    const perClass = this.#examples.map((layer) => captured.layer(this.#spec, layer, run));
    const sums = new Float64Array(this.layerCount + 1);
    for (let layer = 0; layer < this.layerCount; layer++) sums[layer + 1] = sums[layer]! + perClass[this.#classOf[layer]!]!;
    const around = captured.stage(this.#spec, run);
    return (begin, end) => sums[end]! - sums[begin]! + around;
  }

  /** Weights and KV pool of the layers before each layer, bytes, `[layers + 1]`. */
  #layerSums(run: RunShape): Float64Array {
    const { packing } = this;
    const perClass = this.#examples.map(
      (layer, index) =>
        this.#layerWeights[index]! + alignedSum(packing.kv(layer, poolTokens(layer, run), run.cacheType), packing.alignment),
    );
    const sums = new Float64Array(this.layerCount + 1);
    for (let layer = 0; layer < this.layerCount; layer++) sums[layer + 1] = sums[layer]! + perClass[this.#classOf[layer]!]!;
    return sums;
  }

  #scratchSizes(run: RunShape): ArenaSize {
    const known = new Float64Array(this.#sets.length * 4).fill(-1);
    return (begin, end, first, last) => {
      const set = this.#setOf[begin * (this.layerCount + 1) + end]!;
      const key = set * 4 + (first ? 2 : 0) + (last ? 1 : 0);
      if (known[key]! < 0) {
        const stage: StageShape = { layers: this.#sets[set]!, first, last };
        known[key] = alignedSum(this.packing.scratch(this.#spec, stage, run), this.packing.alignment);
      }
      return known[key]!;
    };
  }

  #classify(): number[] {
    let id = 0;
    return this.#spec.layers.map((layer) => {
      // The class of the layer before nearly always.
      if (id < this.#examples.length && sameShape(layer, this.#examples[id])) return id;
      id = this.#examples.findIndex((example) => sameShape(layer, example));
      if (id < 0) id = this.#examples.push(layer) - 1;
      return id;
    });
  }
}

function alignedSum(sizes: readonly RegionSize[], alignment: number): number {
  let sum = 0;
  for (const { bytes } of sizes) sum += roundUp(bytes, alignment);
  return sum;
}

/** What names a layer's tensors, and so differs between layers of the same shape. */
const NAMES: ReadonlySet<string> = new Set(["index", "name", "tensor"]);

/** Whether two layers, or parts of them, are the same in everything that a size may depend on: all but their names. */
function sameShape(a: unknown, b: unknown): boolean {
  if (a === b) return true;
  if (typeof a !== "object" || a === null || typeof b !== "object" || b === null) return Object.is(a, b);
  const [left, right] = [a, b] as [Record<string, unknown>, Record<string, unknown>];
  let more = 0;
  for (const key in left) {
    more++;
    if (left[key] !== right[key] && !NAMES.has(key) && !sameShape(left[key], right[key])) return false;
  }
  for (const _ in right) more--;
  return more === 0;
}

/** Numbers the set of classes of every contiguous run of layers, walking from each start; one set may get several numbers. */
function classSets(classOf: readonly number[], examples: readonly LayerSpec[]): { ids: Int32Array; sets: LayerSpec[][] } {
  const all = classOf.length;
  const ids = new Int32Array((all + 1) * (all + 1));
  const sets: LayerSpec[][] = [[]];
  const grown = new Map<number, number>(); // set · classes + class → set
  for (let first = 0; first <= all; first++) {
    let set = 0;
    for (let end = first + 1; end <= all; end++) {
      const added = classOf[end - 1]!;
      const key = set * examples.length + added;
      let next = grown.get(key);
      if (next === undefined) {
        const example = examples[added]!;
        next = sets[set]!.includes(example) ? set : sets.push([...sets[set]!, example]) - 1;
        grown.set(key, next);
      }
      set = next;
      ids[first * (all + 1) + end] = set;
    }
  }
  return { ids, sets };
}
