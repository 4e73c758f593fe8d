// RMSNorms that are put off (kernels/deferred_norm.cuh) in steps of 5 to 16 rows on Hopper: a layer's two norms take no launches of their
// own where linears that add to the residual stream leave x for those that read it next. In steps of 2 to 8 rows most layers put them off inside
// of one launch (run-chain-rows.ts): then only factors are handed on.
//
// Each norm's x carries every token's factor of the norm before, through the whole model: what o leaves carries
// the factor of the layer's first norm, what down leaves that of its second, and so does what a stage begins with, for the second norm's
// factors cross with the residual stream. Where there is no norm before, as in the model's first layer, x carries its own. So which
// numbers a layer sees does not depend on where the model is cut.

import type { KernelQueue } from "../launch/kernel-queue.js";
import { writeParameters } from "../launch/parameter-layout.js";
import type { PlacedLinear, Stage } from "../steps/stage.js";
import { deferredPlaces, MOST_DEFERRED_HIDDEN } from "./batch-launch-wgmma.js";
import { DEFERRED_NORM_LAUNCH } from "./batch-layouts.js";
import { type BatchScratch, type DeferredInput, type DeferredOutput, takesDeferred } from "./run-batch.js";

/** Most rows of a step whose norms are put off. */
const MOST_PLACES = 16;
/** Of steps whose norms are put off inside of launches alone, and which want no more than what x carries. */
const FEW_PLACES = 8;
/** Outputs whose squares are added up. */
const SQUARED_OUTPUTS = 16;

/** Factors of each row, f32, behind the residual stream of a step and across stages with it. */
export const CARRIED_BYTES = MOST_PLACES * 4;

/** Squares, and behind them the factors of a layer's first norm. */
export function deferredScratchBytes(hidden: number): number {
  return Math.ceil(hidden / SQUARED_OUTPUTS) * MOST_PLACES * 4 + CARRIED_BYTES;
}

export type NormPlace = "input" | "postAttention";

export interface DeferredStep {
  readonly rows: number;
  /** Adapters read x, too: no norm is put off. */
  readonly adapted?: boolean;
  readonly hidden: number;
}

/** Whether the stage, which has layers, leaves factors behind the residual stream for the one that follows: those of its last layer's second norm. */
export function leavesFactors(queue: KernelQueue, stage: Stage, step: DeferredStep, scratch: BatchScratch): boolean {
  const { gate, up } = stage.layers.at(-1)!;
  return defers(queue, stage, step, scratch, [gate, up], true);
}

function defers(
  queue: KernelQueue,
  stage: Stage,
  { rows, adapted = false, hidden }: DeferredStep,
  scratch: BatchScratch,
  linears: readonly PlacedLinear[],
  gated: boolean,
): boolean {
  if (adapted || hidden > MOST_DEFERRED_HIDDEN || !stage.has("scratch.deferred")) return false;
  return takesDeferred(queue, linears, rows, gated, scratch);
}

/** Of one step on one stage; its layers ask in their order. */
export class DeferredNorms {
  readonly #queue: KernelQueue;
  readonly #stage: Stage;
  readonly #step: DeferredStep;
  readonly #scratch: BatchScratch;
  /** Norms for whose x there is something to carry. */
  readonly #carried: Record<NormPlace, boolean>;
  /** The norm whose x a linear has left. */
  #left: NormPlace | null = null;

  /** @param carried the stage before has left factors behind the residual stream */
  constructor(queue: KernelQueue, stage: Stage, step: DeferredStep, scratch: BatchScratch, carried: boolean) {
    this.#queue = queue;
    this.#stage = stage;
    this.#step = step;
    this.#scratch = scratch;
    this.#carried = { input: carried, postAttention: false };
  }

  /**
   * Whether a norm's linears read x that is not normed yet. Nobody else may make it for them, not even who adds to the residual stream: factors that
   * are handed on, also to the next stage, would be missing.
   */
  putsOff(place: NormPlace, readers: readonly PlacedLinear[]): boolean {
    return defers(this.#queue, this.#stage, this.#step, this.#scratch, readers, place === "postAttention");
  }

  /**
   * What is to become of the residual stream for a norm's linears: left by `writer`, which adds to it.
   *
   * @returns `null`: it is left to input(), or no norm is put off
   */
  output(place: NormPlace, writer: PlacedLinear, readers: readonly PlacedLinear[], weight: bigint): DeferredOutput | null {
    const leaves = defers(this.#queue, this.#stage, this.#step, this.#scratch, [writer], false);
    if (!this.#carried[place] || !leaves || !this.putsOff(place, readers)) return null;
    this.#left = place;
    return { weight, y: this.#stage.at("scratch.normed"), squares: this.#squares, carried: this.#carriedAt(place) };
  }

  /**
   * What a norm's linears read instead of what it makes, by a launch where no linear has left it.
   *
   * @returns `null`: this norm is not put off
   */
  input(
    place: NormPlace,
    readers: readonly PlacedLinear[],
    weight: bigint,
    eps: number,
  ): { readonly x: bigint; readonly deferred: DeferredInput } | null {
    const next = place === "input" ? "postAttention" : "input";
    const putsOff = this.putsOff(place, readers);
    if (putsOff && this.#left !== place) this.#begin(place, weight, eps);
    this.#left = null;
    this.#carried[next] = putsOff;
    if (!putsOff) return null;
    const deferred = { squares: this.#squares, carried: this.#carriedAt(place), factors: this.#carriedAt(next), eps };
    return { x: this.#stage.at("scratch.normed"), deferred };
  }

  /**
   * Norms that a launch puts off by itself (run-chain-rows.ts), from `first` to the one at `last`.
   *
   * @returns where it finds the factors of the norm before, made by a launch where there is none, and where it leaves those of its last
   */
  inside(
    first: { readonly place: NormPlace; readonly weight: bigint; readonly eps: number },
    last: NormPlace,
  ): { readonly carried: bigint; readonly left: bigint } {
    if (!this.#carried[first.place]) this.#begin(first.place, first.weight, first.eps);
    this.#left = null;
    const next = last === "input" ? "postAttention" : "input";
    this.#carried[next] = true;
    return { carried: this.#carriedAt(first.place), left: this.#carriedAt(next) };
  }

  #begin(place: NormPlace, weight: bigint, eps: number): void {
    const { rows, hidden } = this.#step;
    this.#queue.run({
      family: "pointwise",
      name: "rms_norm_deferred",
      grid: [rows],
      block: 512,
      role: "norm",
      bytes: rows * hidden * 6,
      parameters: writeParameters(DEFERRED_NORM_LAUNCH, {
        ...{ residual: this.#stage.at("scratch.residual"), weight, y: this.#stage.at("scratch.normed") },
        ...{ squares: this.#squares, carried: this.#carriedAt(place), hidden, places: deferredPlaces(rows) ?? FEW_PLACES, eps },
        own: this.#carried[place] ? 0 : 1,
      }),
    });
  }

  get #squares(): bigint {
    return this.#stage.at("scratch.deferred");
  }

  #carriedAt(place: NormPlace): bigint {
    const { rows, hidden } = this.#step;
    if (place === "input") return this.#stage.at("scratch.residual") + BigInt(rows * hidden * 4);
    return this.#squares + BigInt(deferredScratchBytes(hidden) - CARRIED_BYTES);
  }
}
