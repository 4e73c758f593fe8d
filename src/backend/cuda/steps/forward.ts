// The launches of one step on one stage, in order. Which kernels and which grids depends only
// on the step's shape, never on its contents, so that a decode step can be captured once
// and replayed: contents (ids, positions, pages) lie in the stage's input block.
//
// Numbers: the residual stream is f32, everything between is f16, sums are f32.

import type { RunShape } from "../../../memory/packing.js";
import type { ModelSpec } from "../../../model/spec.js";
import type { KernelCache } from "../attention/attention-launch.js";
import { ROPE_TABLE } from "../attention/attention-layouts.js";
import { runAttention } from "../attention/run-attention.js";
import { type ChainPlaces, chainPlaces, layersTogether, runChain, runLayers } from "../chains/run-chain.js";
import { type ChainRows, chainRows } from "../chains/run-chain-rows.js";
import type { KernelQueue } from "../launch/kernel-queue.js";
import { writeParameters } from "../launch/parameter-layout.js";
import { DeferredNorms, type NormPlace } from "../linears/deferred-norms.js";
import { runAdapters } from "../linears/run-adapters.js";
import { takesOrdered } from "../linears/run-batch.js";
import {
  type LinearCall,
  type LinearScratch,
  linearScratchOf,
  runGated,
  runLinears,
  runResidual,
  takesNorm,
} from "../linears/run-linear.js";
import { runNorm } from "../linears/run-norm.js";
import { runOutputs } from "../outputs/run-outputs.js";
import type { EmbeddingTable } from "../weights/load-embeddings.js";
import { EMBED, SILU_MUL } from "./pointwise-layouts.js";
import type { PlacedLayer, PlacedLinear, Stage } from "./stage.js";
import { attentionScratch, type InputLayout, inputLayout, maxPages } from "./step-shape.js";

/** What decides the launches of a step. */
export interface StepShape {
  /** Tokens, or places for tokens. */
  readonly rows: number;
  /** The first rows are one token each of a sequence: their attention is split over the keys. */
  readonly decodeRows: number;
  /** Tiles of the rows behind them. */
  readonly tiles: number;
  /** Rows of the page tables. */
  readonly entries: number;
  readonly outputs: number;
  /** Some of the entries use adapters; missing: none does. */
  readonly adapted?: boolean;
}

/** What a step needs of the model, the same on every stage. */
export interface ForwardModel {
  readonly spec: ModelSpec;
  readonly run: RunShape;
  /** Multiplies cos and sin. */
  readonly ropeFactor: number;
  readonly embeddings: EmbeddingTable;
}

export class Forward {
  readonly #model: ForwardModel;
  readonly #stage: Stage;
  readonly #queue: KernelQueue;
  readonly #shape: StepShape;
  readonly #layout: InputLayout;
  readonly #linears: LinearScratch;
  readonly #deferred: DeferredNorms;
  /** Of the decode attention, before its partial results. */
  readonly #counterBytes: number;
  /** `null`: the linears of this step go one by one. */
  readonly #chainPlaces: ChainPlaces | null;
  /** The same of several tokens. */
  readonly #chainRows: ChainRows | null;

  /**
   * @param chains linears between two attentions may go in one launch
   * @param carried the stage before has left factors for norms that are put off, see leavesFactors()
   */
  constructor(model: ForwardModel, stage: Stage, queue: KernelQueue, shape: StepShape, chains: boolean, carried: boolean) {
    this.#model = model;
    this.#stage = stage;
    this.#queue = queue;
    this.#shape = shape;
    this.#layout = inputLayout(model.spec, model.run, shape);
    this.#counterBytes = attentionScratch(
      stage.layers.map(({ spec }) => spec),
      model.run,
    ).counters;
    this.#linears = linearScratchOf(stage);
    this.#deferred = new DeferredNorms(queue, stage, { ...shape, hidden: model.spec.hiddenSize }, this.#linears, carried);
    // What adapters add comes between linears.
    this.#chainPlaces = chains && shape.rows === 1 && !shape.adapted ? chainPlaces(stage, model.run.cacheType) : null;
    this.#chainRows = chains ? chainRows(stage, shape) : null;
  }

  /** Embeddings on the first stage, then all of the stage's layers. */
  layers(): void {
    const { layers, first } = this.#stage;
    if (first) this.#embed(layers.length > 0);
    if (layers.length === 0) return;
    if (!first) this.#ropeTable();
    let layer: PlacedLayer | null = null; // whose linears ahead of attention have been done
    for (let at = 0; at < layers.length || layer !== null; ) {
      const whole = this.#wholeLayers(at);
      const next = whole.length > 0 ? null : (layers[at] ?? null);
      if (layer) this.#attention(layer);
      this.#between(layer, next);
      this.#inOneLaunch(whole);
      layer = next;
      at += Math.max(1, whole.length);
    }
  }

  /** Final norm, head, facts and chosen tokens of outputs `first` … `first + count − 1`. */
  outputs(first: number, count: number): void {
    const { rows, decodeRows } = this.#shape;
    // What all rows of a decode step were fed, and where the step that follows right away finds what was chosen.
    const fed = decodeRows === rows && first === 0 && count === rows;
    runOutputs(
      this.#queue,
      this.#model,
      this.#stage,
      {
        count,
        rows: this.#input(this.#layout.outputRows + first * 4),
        targets: this.#input(this.#layout.targets + first * 4),
        ids: fed ? this.#input(this.#layout.ids) : 0n,
      },
      this.#linears,
    );
  }

  /** What attention of the stage's layers turns by comes from the same launch as embeddings. */
  #embed(withAngles: boolean): void {
    const { spec, embeddings } = this.#model;
    const { table, ...angles } = this.#angles();
    this.#queue.run({
      family: "pointwise",
      name: "embed",
      role: withAngles ? "embeddings, angles" : "embeddings",
      bytes: this.#shape.rows * (spec.hiddenSize * 4 + (withAngles ? angles.halfDim * 8 : 0)),
      grid: [this.#shape.rows],
      block: 384,
      parameters: writeParameters(EMBED, {
        ...angles,
        angles: withAngles ? table : 0n,
        table: embeddings.at,
        ids: this.#input(this.#layout.ids),
        residual: this.#stage.at("scratch.residual"),
        hidden: spec.hiddenSize,
        kind: embeddings.kind,
      }),
    });
  }

  /** Angles of every token, once for all layers, on stages that have no embeddings. */
  #ropeTable(): void {
    const parameters = this.#angles();
    this.#queue.run({
      family: "pointwise",
      name: "rope_table",
      role: "angles",
      bytes: this.#shape.rows * parameters.halfDim * 8,
      grid: [this.#shape.rows],
      block: Math.ceil(parameters.halfDim / 32) * 32,
      parameters: writeParameters(ROPE_TABLE, parameters),
    });
  }

  /** With dynamic RoPE each sequence has frequencies of its own. */
  #angles() {
    const { spec, ropeFactor } = this.#model;
    const dynamic = spec.rope.kind === "dynamic";
    return {
      halfTurns: dynamic ? this.#input(this.#layout.frequencies) : this.#stage.at("scratch.frequencies"),
      frequencyRow: dynamic ? this.#input(this.#layout.sequence) : 0n,
      positions: this.#input(this.#layout.positions),
      table: this.#stage.at("scratch.ropeTable"),
      halfDim: spec.layers[0]!.attention.headDim / 2,
      factor: ropeFactor,
    };
  }

  /** What these linears read of the residual stream: normalised by them, or by a kernel of its own, whose result adapters read too; or not yet normalised. */
  #normed(
    place: NormPlace,
    linears: readonly PlacedLinear[],
    weight: bigint,
    eps: number,
    ordered: boolean,
  ): Pick<LinearCall, "x" | "norm" | "ordered" | "deferred"> {
    const deferred = this.#deferred.input(place, linears, weight, eps);
    if (deferred) return deferred;
    if (!this.#shape.adapted && takesNorm(linears, this.#shape.rows))
      return { x: this.#stage.at("scratch.residual"), norm: { weight, eps } };
    runNorm(this.#queue, this.#model.spec.hiddenSize, {
      ...{ residual: this.#stage.at("scratch.residual"), rows: 0n, count: this.#shape.rows, weight, eps },
      ...{ y: this.#stage.at("scratch.normed"), hiddenState: 0n, ordered, role: "norm" },
    });
    return { x: this.#stage.at("scratch.normed"), ordered };
  }

  /** Whether linears read x in the order of codes, and nobody else reads it. */
  #ordered(linears: readonly PlacedLinear[], gated = false): boolean {
    return !this.#shape.adapted && takesOrdered(this.#queue, linears, this.#shape.rows, gated, this.#linears);
  }

  /** Whether attention writes its results in the order of o's codes: only that of decode rows can. */
  #orderedOutput(layer: PlacedLayer): boolean {
    const { rows, decodeRows } = this.#shape;
    if (this.#chainRows?.takes(layer)) return false;
    return decodeRows === rows && layer.spec.attention.headDim % 32 === 0 && this.#ordered([layer.o]);
  }

  /** Layers from `first` on that go through one launch, attention included; none where that is not possible. */
  #wholeLayers(first: number): readonly PlacedLayer[] {
    if (!this.#chainPlaces) return [];
    const { layers } = this.#stage;
    const count = layersTogether(this.#queue, layers.slice(first), this.#cache);
    return layers.slice(first, first + count);
  }

  #inOneLaunch(layers: readonly PlacedLayer[]): void {
    if (layers.length === 0) return;
    const call = {
      residual: this.#stage.at("scratch.residual"),
      table: this.#stage.at("scratch.ropeTable"),
      position: this.#input(this.#layout.positions),
      pages: this.#layout.pages.map((offset) => this.#input(offset)),
    };
    runLayers(this.#queue, layers, call, this.#chainPlaces!);
  }

  /** From the attention of a layer, if there is one, to that of the next, if there is one. */
  #between(layer: PlacedLayer | null, next: PlacedLayer | null): void {
    if (this.#chain(layer, next)) return;
    // A chain has nothing left for it but the residual stream.
    const reader = next && !this.#chainRows?.takes(next) ? next : null;
    if (layer && !this.#chain(layer, null)) this.#mlp(layer, this.#output(layer), reader);
    if (next && !this.#chain(null, next)) this.#qkv(next);
  }

  /**
   * All of that in one launch, where it is possible. The next q, k and v may lie where attention's output does: a block
   * sends its part of o's result after having read that output, and writes q, k or v after having had all that became
   * of o's results; blocks without a part of o make nothing of the output that they read.
   */
  #chain(layer: PlacedLayer | null, next: PlacedLayer | null): boolean {
    const residual = this.#stage.at("scratch.residual");
    const x = this.#stage.at("scratch.block");
    const call = { x, residual, y: next ? this.#placesOf(next) : [] };
    const { rows } = this.#shape;
    if (this.#chainRows) return this.#chainRows.run(this.#queue, layer, next, { ...call, rows }, this.#deferred);
    return this.#chainPlaces !== null && runChain(this.#queue, layer, next, call, this.#chainPlaces);
  }

  /** Where a layer's q, k and v lie; attention's output takes the place of q. */
  #placesOf({ spec: { attention } }: PlacedLayer): readonly [q: bigint, k: bigint, v: bigint] {
    const { heads, kvHeads, headDim } = attention;
    const q = this.#stage.at("scratch.block");
    const k = q + BigInt(this.#shape.rows * heads * headDim * 2);
    return [q, k, k + BigInt(this.#shape.rows * kvHeads * headDim * 2)];
  }

  #qkv(layer: PlacedLayer): void {
    const { rows } = this.#shape;
    const y = this.#placesOf(layer);
    const linears = [layer.q, layer.k, layer.v];
    runLinears(
      this.#queue,
      linears,
      {
        ...this.#normed("input", linears, layer.norms.input, layer.spec.inputNorm.eps, this.#ordered(linears)),
        ...{ y, rows, f32: false, residual: 0n, role: "qkv" },
      },
      this.#linears,
    );
    this.#adapt(linears, this.#stage.at("scratch.normed"), y, false);
  }

  #attention(layer: PlacedLayer): void {
    const stage = this.#stage;
    const [q, k, v] = this.#placesOf(layer);
    runAttention(this.#queue, layer, this.#cache, {
      ...{
        q,
        k,
        v,
        rows: this.#shape.rows,
        ordered: this.#orderedOutput(layer),
        decodeRows: this.#shape.decodeRows,
        tileCount: this.#shape.tiles,
      },
      table: stage.at("scratch.ropeTable"),
      partial: stage.at("scratch.partials") + BigInt(this.#counterBytes),
      positions: this.#input(this.#layout.positions),
      sequence: this.#input(this.#layout.sequence),
      pages: this.#input(this.#layout.pages[layer.group]!),
      tiles: this.#input(this.#layout.tiles),
      maxPages: maxPages(this.#model.run),
    });
  }

  /** @returns whether the norm that follows has been done, too */
  #output(layer: PlacedLayer): boolean {
    const { rows } = this.#shape;
    const stage = this.#stage;
    const x = stage.at("scratch.block");
    const residual = stage.at("scratch.residual");
    const next = { weight: layer.norms.postAttention, eps: layer.spec.postAttentionNorm.eps, y: stage.at("scratch.normed") };
    const readers = [layer.gate, layer.up];
    // What adapters add to the residual stream comes before the norm.
    const isApart = this.#shape.adapted || this.#deferred.putsOff("postAttention", readers);
    const normed = runResidual(
      this.#queue,
      layer.o,
      { x, rows, residual, role: "o", ordered: this.#orderedOutput(layer) },
      isApart ? null : next,
      this.#linears,
      this.#deferred.output("postAttention", layer.o, readers, next.weight),
    );
    this.#adapt([layer.o], x, [residual], true);
    return normed;
  }

  /**
   * @param normed whether the norm ahead has been done
   * @param next whose q, k and v follow on this stage and read what is left for them
   */
  #mlp(layer: PlacedLayer, normed: boolean, next: PlacedLayer | null): void {
    const { rows } = this.#shape;
    const stage = this.#stage;
    const count = rows * layer.gate.spec.out;
    const gate = stage.at("scratch.block");
    const up = gate + BigInt(count * 2);
    const residual = stage.at("scratch.residual");
    const linears = [layer.gate, layer.up];
    const ordered = this.#ordered(linears, true);
    const orderedY = ordered && this.#ordered([layer.down]);
    const call = {
      ...(normed
        ? { x: stage.at("scratch.normed") }
        : this.#normed("postAttention", linears, layer.norms.postAttention, layer.spec.postAttentionNorm.eps, ordered)),
      ...{ rows, f32: false, residual: 0n, role: "gate-up" },
    };
    // What adapters add comes before the activation, which the one launch would have in it.
    const apart = this.#shape.adapted && (layer.gate.adapters ?? layer.up.adapters);
    if (apart || !runGated(this.#queue, layer.gate, layer.up, { ...call, y: gate, orderedY }, this.#linears)) {
      runLinears(this.#queue, linears, { ...call, y: [gate, up] }, this.#linears);
      this.#adapt(linears, stage.at("scratch.normed"), [gate, up], false);
      this.#queue.run({
        family: "pointwise",
        name: "silu_mul",
        role: "silu",
        bytes: count * 6,
        grid: [Math.max(1, Math.min(4096, Math.ceil(count / 8 / 256)))],
        block: 256,
        parameters: writeParameters(SILU_MUL, { gate, up, y: gate, count: BigInt(count) }),
      });
    }
    const down = { x: gate, rows, residual, role: "down", ordered: orderedY };
    const deferred = next && this.#deferred.output("input", layer.down, [next.q, next.k, next.v], next.norms.input);
    runResidual(this.#queue, layer.down, down, null, this.#linears, deferred);
    this.#adapt([layer.down], gate, [residual], true);
  }

  /** In a step with adapters: what they add to linears that read the same x. */
  #adapt(linears: readonly PlacedLinear[], x: bigint, y: readonly bigint[], f32: boolean): void {
    if (!this.#shape.adapted || !this.#stage.has("scratch.adapters")) return;
    runAdapters(
      this.#queue,
      linears,
      { x, y, rows: this.#shape.rows, f32 },
      {
        t: this.#stage.at("scratch.adapters"),
        weights: this.#input(this.#layout.adapterWeights),
        sequence: this.#input(this.#layout.sequence),
        adapters: this.#model.spec.adapters?.length ?? 0,
      },
    );
  }

  get #cache(): KernelCache {
    const { cacheType } = this.#model.run;
    if (cacheType === "f32") throw new Error("the GPU kernels have no f32 cache");
    return cacheType;
  }

  #input(offset: number): bigint {
    return this.#stage.at("scratch.input") + BigInt(offset);
  }
}
