// Layers of random weights with all that a step needs beside attention, in the place of a stage of a model.

import { chainRowsLayout } from "../../src/backend/cuda/chains/chain-rows-shape.js";
import { mostWgmmaPieceBytes } from "../../src/backend/cuda/linears/batch-launch-wgmma.js";
import { CARRIED_BYTES, deferredScratchBytes } from "../../src/backend/cuda/linears/deferred-norms.js";
import type { PlacedLayer, PlacedLinear, Stage } from "../../src/backend/cuda/steps/stage.js";
import type { LayerSpec } from "../../src/model/spec.js";
import type { KernelBench } from "./kernel-bench.js";
import { copyOf, randomLinear } from "./random-weights.js";

/** Inputs and outputs of a layer's linears, 4 bits in groups of 128. */
export interface LayerWidths {
  readonly hidden: number;
  /** Inputs of o. */
  readonly attention: number;
  readonly intermediate: number;
  /** Outputs of q, k and v. */
  readonly next: readonly [q: number, k: number, v: number];
}

export const MOST_ROWS = 8;
export const EPS = 1e-5;

type Linears = Pick<PlacedLayer, "q" | "k" | "v" | "o" | "gate" | "up" | "down">;

export class RandomStage {
  readonly widths: LayerWidths;
  /** Whose linears all have biases; and the same without. */
  readonly biased: Stage;
  readonly plain: Stage;
  readonly #bench: KernelBench;
  readonly #taken: bigint[] = [];

  /** @param kinds so many layers have contents of their own, the others copies of theirs */
  constructor(bench: KernelBench, widths: LayerWidths, count: number, kinds: number) {
    this.widths = widths;
    this.#bench = bench;
    const layers: PlacedLayer[] = [];
    for (let i = 0; i < count; i++) layers.push(i < kinds ? this.#made(i) : this.#copied(layers[i % kinds]!));
    const regions = this.#regions(layers.map(({ spec }) => spec));
    this.biased = this.#stage(layers, regions);
    this.plain = this.#stage(layers.map(withoutBiases), regions);
    bench.gpu.synchronize();
  }

  free(): void {
    this.#bench.free(...this.#taken);
  }

  /** New memory that is given back with the stage. */
  take(bytes: number, byte = 0): bigint {
    const at = this.#took(this.#bench.gpu.allocate(bytes));
    this.#bench.gpu.fill(at, byte, bytes);
    return at;
  }

  #regions(specs: readonly LayerSpec[]): ReadonlyMap<string, { readonly at: bigint; readonly bytes: number }> {
    const { hidden } = this.widths;
    const sizes: readonly (readonly [name: string, bytes: number, filled?: number])[] = [
      ["residual", MOST_ROWS * hidden * 4 + CARRIED_BYTES],
      ["normed", MOST_ROWS * hidden * 2],
      ["deferred", deferredScratchBytes(hidden)],
      ["expanded", 256],
      ["pieces", mostWgmmaPieceBytes(MOST_ROWS), 0xff],
      ["chainRows", chainRowsLayout(specs)!.bytes],
    ];
    return new Map(sizes.map(([name, bytes, filled = 0]) => [`scratch.${name}`, { at: this.take(bytes, filled), bytes }]));
  }

  /** What launches of linears ask a stage for. */
  #stage(layers: readonly PlacedLayer[], regions: ReadonlyMap<string, { readonly at: bigint; readonly bytes: number }>): Stage {
    const asked: Pick<Stage, "context" | "layers" | "at" | "has" | "size"> = {
      context: this.#bench.gpu,
      layers,
      at: (name) => regions.get(name)!.at,
      has: (name) => regions.has(name),
      size: (name) => regions.get(name)!.bytes,
    };
    return asked as Stage;
  }

  #made(index: number): PlacedLayer {
    const { hidden, attention, intermediate, next } = this.widths;
    const linear = (name: string, inputs: number, outputs: number): PlacedLinear => {
      const made = randomLinear(this.#bench, 128, { name, inputs, outputs });
      this.#took(made.weights);
      return { ...made, bias: this.#took(this.#bench.halves(outputs, 0.1)) };
    };
    const linears: Linears = {
      q: linear("q", hidden, next[0]),
      k: linear("k", hidden, next[1]),
      v: linear("v", hidden, next[2]),
      o: linear("o", attention, hidden),
      gate: linear("gate", hidden, intermediate),
      up: linear("up", hidden, intermediate),
      down: linear("down", intermediate, hidden),
    };
    const norm = () => this.#took(this.#bench.halves(hidden, 0.4));
    return {
      ...linears,
      spec: specOf(index, hidden, linears),
      group: 0,
      norms: { input: norm(), postAttention: norm(), q: 0n, k: 0n },
      keys: 0n,
      values: 0n,
    };
  }

  #copied(layer: PlacedLayer): PlacedLayer {
    return mapLinears(layer, (linear) => {
      const copy = copyOf(this.#bench, linear);
      this.#took(copy.weights);
      return copy;
    });
  }

  #took(at: bigint): bigint {
    this.#taken.push(at);
    return at;
  }
}

function specOf(index: number, hidden: number, { q, k, v, o, gate, up, down }: Linears): LayerSpec {
  const norm = { tensor: "", size: hidden, eps: EPS };
  const heads = { heads: 1, kvHeads: 1, headDim: 1, window: null, qNorm: null, kNorm: null }; // there is no attention
  return {
    index,
    inputNorm: norm,
    postAttentionNorm: norm,
    attention: { ...heads, q: q.spec, k: k.spec, v: v.spec, o: o.spec },
    mlp: { kind: "gated", gate: gate.spec, up: up.spec, down: down.spec },
  };
}

function withoutBiases(layer: PlacedLayer): PlacedLayer {
  return mapLinears(layer, (linear) => ({ ...linear, bias: 0n }));
}

function mapLinears(layer: PlacedLayer, change: (linear: PlacedLinear) => PlacedLinear): PlacedLayer {
  const { q, k, v, o, gate, up, down } = layer;
  const [first, last] = [
    { q: change(q), k: change(k), v: change(v) },
    { o: change(o), gate: change(gate), up: change(up), down: change(down) },
  ];
  return { ...layer, ...first, ...last };
}
