// Two to eight tokens through what lies between two attentions in one launch (kernels/linear_chain_rows.cu), as run-chain.ts does it with one:
// o, gate and up, down, and q, k and v of the layer that follows. Norms are put off inside, so factors come from the launch
// before and are left for the next (deferred-norms.ts). A layer goes this way with all of its linears or none, whatever lies
// beside it: so the bits of an answer do not depend on where a model is cut.

import type { KernelQueue } from "../launch/kernel-queue.js";
import type { DeferredNorms } from "../linears/deferred-norms.js";
import type { StreamingCard } from "../linears/linear-launch.js";
import type { PlacedLayer, Stage } from "../steps/stage.js";
import { type ChainRowsScratch, chainRowsLaunch, LEAST_CHAIN_ROWS, MOST_CHAIN_ROWS } from "./chain-rows-launch.js";
import { chainRowsParameters } from "./chain-rows-parameters.js";
import { chainRowsLayout, chainRowsShape } from "./chain-rows-shape.js";
import { chainShape } from "./chain-shape.js";
import { type ChainCall, isInOrder, linearsAfter, linearsBefore, placesOf } from "./run-chain.js";

/** As ChainCall, each of `rows` rows. */
export interface ChainRowsCall extends ChainCall {
  readonly rows: number;
}

export interface ChainRowsStep {
  readonly rows: number;
  /** What adapters add comes between linears: nothing goes together. */
  readonly adapted?: boolean;
}

/** @returns null where no layer of the stage, whose weights have been loaded, goes this way */
export function chainRows(stage: Stage, { rows, adapted = false }: ChainRowsStep): ChainRows | null {
  if (rows < LEAST_CHAIN_ROWS || rows > MOST_CHAIN_ROWS || adapted || !stage.has("scratch.chainRows")) return null;
  const chains = known.get(stage) ?? new ChainRows(stage);
  known.set(stage, chains);
  return chains;
}

/** Found out once: every step asks several times, and of a large model it takes a millisecond. */
const known = new WeakMap<Stage, ChainRows>();

/** Of one stage. */
export class ChainRows {
  readonly #taken: ReadonlySet<PlacedLayer>;
  /** Packets and counters, see chainRowsScratch(): zero before the first launch, and from there on the kernel's own. */
  readonly #places: Readonly<Record<keyof ChainRowsScratch, bigint>>;

  constructor(stage: Stage) {
    const { layers, context } = stage;
    this.#taken = new Set(layers.filter((layer) => isTaken(layer, context.card)));
    const { normed, squares, gated, pieces, epochs } = chainRowsLayout(layers.map(({ spec }) => spec))!;
    const at = (offset: number) => stage.at("scratch.chainRows") + BigInt(offset);
    this.#places = { normed: at(normed), squares: at(squares), gated: at(gated), pieces: at(pieces), epochs: at(epochs) };
  }

  /** Whether a layer's linears go this way. */
  takes(layer: PlacedLayer): boolean {
    return this.#taken.has(layer);
  }

  /**
   * @param layer whose attention has been done, or null ahead of the first
   * @param next whose attention follows, or null
   * @returns false where these do not go in one launch and nothing was launched
   */
  run(
    queue: KernelQueue,
    layer: PlacedLayer | null,
    next: PlacedLayer | null,
    { x, y, residual, rows }: ChainRowsCall,
    norms: DeferredNorms,
  ): boolean {
    if ((layer && !this.takes(layer)) || (next && !this.takes(next))) return false;
    const shape = chainShape(layer?.spec ?? null, next?.spec ?? null);
    const launch = shape && chainRowsLaunch(shape, queue.context.card);
    const last = next && { place: "input" as const, weight: next.norms.input, eps: next.spec.inputNorm.eps };
    const first = layer
      ? { place: "postAttention" as const, weight: layer.norms.postAttention, eps: layer.spec.postAttentionNorm.eps }
      : last;
    if (!launch || !first || (last && first.eps !== last.eps)) return false;
    const factors = norms.inside(first, (last ?? first).place);
    const linears = [...(layer ? linearsAfter(layer) : []), ...(next ? linearsBefore(next) : [])];
    const { name, grid, block, shared } = launch;
    queue.run({
      ...{ family: "linear_chain_rows", name, grid: [grid], block, shared, together: true },
      parameters: chainRowsParameters(
        ...([launch, shape, { residual, eps: first.eps, ...this.#places }, { attention: x, y, rows, ...factors }] as const),
        layer && placesOf(layer, 0n),
        next && placesOf(next, 0n),
      ),
      role: layer ? `o to ${next ? "qkv" : "down"}` : "qkv",
      bytes: linears.reduce((sum, { weightBytes }) => sum + weightBytes, 0),
    });
    return true;
  }
}

/** All of its linears or none, so that it does not depend on its neighbours. */
function isTaken(layer: PlacedLayer, card: StreamingCard): boolean {
  const shape = chainRowsShape(layer.spec);
  const linears = [...linearsBefore(layer), ...linearsAfter(layer)];
  return shape !== null && linears.every(isInOrder) && chainRowsLaunch(shape, card) !== null;
}
