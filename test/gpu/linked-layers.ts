// A few tokens through layers of random weights, by the engine's own launches: each from an attention to the next in one
// (kernels/linear_chain_rows.cu), or linear by linear. In attention's place q is o's x, or where their widths differ something that stays as it is.

import { CHAIN_ROWS, CHAIN_SHAPE } from "../../src/backend/cuda/chains/chain-layouts.js";
import { type ChainRows, chainRows } from "../../src/backend/cuda/chains/run-chain-rows.js";
import { type KernelCall, KernelQueue } from "../../src/backend/cuda/launch/kernel-queue.js";
import { CARRIED_BYTES, DeferredNorms, type NormPlace } from "../../src/backend/cuda/linears/deferred-norms.js";
import { linearScratchOf, runGated, runLinears, runResidual, takesNorm } from "../../src/backend/cuda/linears/run-linear.js";
import { runNorm } from "../../src/backend/cuda/linears/run-norm.js";
import type { PlacedLayer, PlacedLinear, Stage } from "../../src/backend/cuda/steps/stage.js";
import type { KernelBench } from "./kernel-bench.js";
import { EPS, MOST_ROWS, type RandomStage } from "./random-stage.js";

/**
 * One launch from an attention to the next; those cut behind down, as between stages; linears one by one, with norms in launches of their
 * own; the same as the engine does it where it has no such launches.
 */
export type Way = "linked" | "cut" | "apart" | "engine";

/** How far: to q, k and v of the last layer, or to its end. */
export interface Walk {
  readonly rows: number;
  readonly layers: number;
  readonly toEnd: boolean;
}

/** Bits of what a walk leaves, with room for the most tokens. */
export interface Left {
  /** f32 [MOST_ROWS, hidden]; behind the tokens there were, factors of the norm before. */
  readonly residual: Float32Array<ArrayBuffer>;
  /** f16 [MOST_ROWS, outputs] of q, k and v, as they lie. */
  readonly y: readonly Float32Array<ArrayBuffer>[];
  /** f32 [MOST_ROWS]: those of a layer's first norm. */
  readonly factors: Float32Array<ArrayBuffer>;
}

export class LinkedLayers {
  readonly #bench: KernelBench;
  readonly #of: RandomStage;
  readonly #stage: Stage;
  readonly #y: readonly bigint[];
  /** What o reads. */
  readonly #x: bigint;
  readonly #gated: bigint;

  constructor(bench: KernelBench, of: RandomStage, biased: boolean) {
    const { hidden, attention, intermediate, next } = of.widths;
    this.#bench = bench;
    this.#of = of;
    this.#stage = biased ? of.biased : of.plain;
    this.#y = next.map((outputs) => of.take(MOST_ROWS * outputs * 2));
    this.#x = attention === next[0] ? this.#y[0]! : of.take(MOST_ROWS * attention * 2);
    if (attention !== next[0]) bench.fillHalves(this.#x, MOST_ROWS * attention);
    this.#gated = of.take(2 * MOST_ROWS * Math.max(intermediate, hidden) * 2);
  }

  /** @param before f32 [MOST_ROWS, hidden]; what is behind the rows is left alone */
  through(before: Float32Array, way: Way, walk: Walk): Left {
    this.#prepare(before);
    this.launch(way, walk, false);
    return this.#left();
  }

  /** The same by a graph whose kernels overlap, where later walks take up what earlier ones have left. */
  captured(before: Float32Array, way: Way, walks: readonly Walk[]): Left {
    const graph = this.graph(way, walks);
    const left = this.replayed(before, graph);
    this.#bench.gpu.destroyGraph(graph);
    return left;
  }

  /** What a graph leaves of this, once more. */
  replayed(before: Float32Array, graph: bigint): Left {
    this.#prepare(before);
    this.#bench.gpu.launchGraph(graph);
    return this.#left();
  }

  /** @param flying copies of weights under way at a time; default: as the engine has it */
  graph(way: Way, walks: readonly Walk[], flying?: number): bigint {
    for (const walk of walks) this.launch(way, walk, false); // loads the kernels, which a capture cannot
    return this.#bench.gpu.capture(() => {
      for (const walk of walks) this.launch(way, walk, true, flying);
    });
  }

  /** @param overlap kernels may begin before those ahead have ended */
  launch(way: Way, walk: Walk, overlap: boolean, flying?: number): void {
    const plain = new KernelQueue(this.#bench.gpu, overlap);
    const queue =
      flying === undefined ? plain : new KernelQueue(this.#bench.gpu, overlap, (call) => plain.run(withFlying(call, flying)));
    const layers = this.#stage.layers.slice(0, walk.layers);
    const { rows, toEnd } = walk;
    // Where somebody else reads x, no norm is put off.
    const step = { rows, hidden: this.#of.widths.hidden, adapted: way === "apart" };
    const norms = new DeferredNorms(queue, this.#stage, step, linearScratchOf(this.#stage), false);
    if (way === "linked" || way === "cut") this.#links(queue, layers, norms, walk, way === "cut");
    else new Apart(queue, this.#stage, norms, { ...step, y: this.#y, x: this.#x, gated: this.#gated }).run(layers, toEnd);
  }

  #links(queue: KernelQueue, layers: readonly PlacedLayer[], norms: DeferredNorms, { rows, toEnd }: Walk, cut: boolean): void {
    const chains: ChainRows | null = chainRows(this.#stage, { rows });
    const call = { x: this.#x, residual: this.#stage.at("scratch.residual"), y: this.#y, rows };
    const link = (layer: PlacedLayer | null, next: PlacedLayer | null) => {
      if (!chains?.run(queue, layer, next, { ...call, y: next ? this.#y : [] }, norms))
        throw new Error("no such launch on this card");
    };
    layers.forEach((layer, i) => {
      const before = layers[i - 1] ?? null;
      if (cut && before) link(before, null);
      link(cut ? null : before, layer);
    });
    if (toEnd) link(layers.at(-1)!, null);
  }

  #prepare(before: Float32Array): void {
    const { gpu } = this.#bench;
    gpu.copyIn(this.#stage.at("scratch.residual"), before);
    // What is no number, where nobody has anything to read before somebody writes it.
    for (const region of ["scratch.normed", "scratch.deferred"]) gpu.fill(this.#stage.at(region), 0xff, this.#stage.size(region));
    this.#of.widths.next.forEach((outputs, i) => {
      gpu.fill(this.#y[i]!, 0xff, MOST_ROWS * outputs * 2);
    });
    gpu.fill(this.#gated, 0xff, MOST_ROWS * this.#of.widths.intermediate * 2);
  }

  #left(): Left {
    const { hidden, next } = this.#of.widths;
    const deferred = this.#stage.at("scratch.deferred") + BigInt(this.#stage.size("scratch.deferred"));
    return {
      residual: this.#bench.download(this.#stage.at("scratch.residual"), MOST_ROWS * hidden),
      y: next.map((outputs, i) => this.#bench.download(this.#y[i]!, (MOST_ROWS * outputs) / 2)),
      factors: this.#bench.download(deferred - BigInt(CARRIED_BYTES), MOST_ROWS),
    };
  }
}

const FLYING_AT = 4 * CHAIN_SHAPE.bytes + CHAIN_ROWS.places.find(({ name }) => name === "flying")!.at;

function withFlying(call: KernelCall, flying: number): KernelCall {
  if (call.family !== "linear_chain_rows") return call;
  const parameters = call.parameters.slice();
  new DataView(parameters.buffer).setInt32(FLYING_AT, flying, true);
  return { ...call, parameters };
}

interface ApartStep {
  readonly rows: number;
  readonly hidden: number;
  readonly adapted: boolean;
  readonly y: readonly bigint[];
  readonly x: bigint;
  readonly gated: bigint;
}

/** Linear by linear, as Forward does it. */
class Apart {
  readonly #queue: KernelQueue;
  readonly #stage: Stage;
  readonly #norms: DeferredNorms;
  readonly #step: ApartStep;

  constructor(queue: KernelQueue, stage: Stage, norms: DeferredNorms, step: ApartStep) {
    this.#queue = queue;
    this.#stage = stage;
    this.#norms = norms;
    this.#step = step;
  }

  run(layers: readonly PlacedLayer[], toEnd: boolean): void {
    layers.forEach((layer, i) => {
      this.#qkv(layer);
      const next = layers[i + 1] ?? null;
      if (next || toEnd) this.#mlp(layer, next);
    });
  }

  #qkv({ q, k, v, norms }: PlacedLayer): void {
    const { rows, y } = this.#step;
    const linears = [q, k, v];
    const call = { ...this.#normed("input", linears, norms.input), y, rows, f32: false, residual: 0n, role: "" };
    runLinears(this.#queue, linears, call, this.#scratch);
  }

  #mlp({ o, gate, up, down, norms }: PlacedLayer, next: PlacedLayer | null): void {
    const { rows, x, gated } = this.#step;
    const residual = this.#stage.at("scratch.residual");
    const left = this.#norms.output("postAttention", o, [gate, up], norms.postAttention);
    runResidual(this.#queue, o, { x, rows, residual, role: "" }, null, this.#scratch, left);
    const call = { ...this.#normed("postAttention", [gate, up], norms.postAttention), y: gated };
    if (!runGated(this.#queue, gate, up, { ...call, rows, f32: false, residual: 0n, role: "" }, this.#scratch))
      throw new Error("gate and up do not go together");
    const onwards = next && this.#norms.output("input", down, [next.q, next.k, next.v], next.norms.input);
    runResidual(this.#queue, down, { x: gated, rows, residual, role: "" }, null, this.#scratch, onwards);
  }

  #normed(place: NormPlace, linears: readonly PlacedLinear[], weight: bigint) {
    const deferred = this.#norms.input(place, linears, weight, EPS);
    if (deferred) return deferred;
    const { rows, hidden, adapted } = this.#step;
    const residual = this.#stage.at("scratch.residual");
    if (!adapted && takesNorm(linears, rows)) return { x: residual, norm: { weight, eps: EPS } };
    const y = this.#stage.at("scratch.normed");
    runNorm(this.#queue, hidden, {
      residual,
      rows: 0n,
      count: rows,
      weight,
      eps: EPS,
      y,
      hiddenState: 0n,
      ordered: false,
      role: "",
    });
    return { x: y };
  }

  get #scratch() {
    return linearScratchOf(this.#stage);
  }
}
