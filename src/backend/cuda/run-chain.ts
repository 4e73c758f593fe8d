// Everything of one token between two attentions in one launch (kernels/linear_chain.cu): o, gate and up, down, and q, k and
// v of the layer that follows. Before a stage's first attention there are only q, k and v, behind its last one there is
// all but them. They are launches of the same kernel, so that the bits of an answer do not depend on where a model is cut.

import { chainLaunch } from "./chain-launch.js";
import { type ChainLinear, chainParameters } from "./chain-parameters.js";
import { chainLayout, chainShape } from "./chain-shape.js";
import type { KernelQueue } from "./kernel-queue.js";
import type { PlacedLayer, PlacedLinear, Stage } from "./stage.js";

export interface ChainCall {
  /** f16 [inputs of o]: what attention has left. */
  readonly x: bigint;
  /** f32 [hidden], added to. */
  readonly residual: bigint;
  /** f16: where the next attention reads q, k and v; may be where x is. */
  readonly y: readonly bigint[];
}

/** What blocks tell each other, see chainScratch(): zero before the first launch, and from there on the kernel's own. */
export interface ChainPlaces {
  readonly sums: bigint;
  readonly gated: bigint;
  readonly pieces: bigint;
  readonly epochs: bigint;
}

/** @returns null where no layer of the stage can use them */
export function chainPlaces(stage: Stage): ChainPlaces | null {
  const layout = chainLayout(stage.layers.map(({ spec }) => spec));
  if (!layout) return null;
  const at = (offset: number) => stage.at("scratch.chain") + BigInt(offset);
  return { sums: at(layout.sums), gated: at(layout.gated), pieces: at(layout.pieces), epochs: at(layout.epochs) };
}

/**
 * @param layer whose attention has been done, or null ahead of the first
 * @param next whose attention follows, or null
 * @returns false where the kernel cannot do it and nothing was launched
 */
export function runChain(
  queue: KernelQueue,
  layer: PlacedLayer | null,
  next: PlacedLayer | null,
  { x, residual, y }: ChainCall,
  places: ChainPlaces,
): boolean {
  const shape = chainShape(layer?.spec ?? null, next?.spec ?? null);
  const launch = shape && chainLaunch(shape, queue.context.card);
  const after = layer ? [[layer.o], [layer.gate, layer.up], [layer.down]] : [];
  const before = next ? [[next.q, next.k, next.v]] : [];
  const linears = [...after, ...before].flat();
  if (!launch || linears.some(({ permutation, groupOf }) => permutation !== 0n || groupOf !== 0n)) return false;
  const buffers = {
    attention: x,
    residual,
    norm: layer?.norms.postAttention ?? 0n,
    eps: layer?.spec.postAttentionNorm.eps ?? 0,
    nextNorm: next?.norms.input ?? 0n,
    nextEps: next?.spec.inputNorm.eps ?? 0,
    y,
    ...places,
  };
  const chained = [...(layer ? after.map(together) : nothingBefore(shape.hidden)), ...before.map(together)];
  const { name, grid, block, shared } = launch;
  queue.run({
    ...{ family: "linear_chain", name, grid: [grid], block, shared, together: true },
    parameters: chainParameters(launch, buffers, chained),
    role: layer ? `o to ${next ? "qkv" : "down"}` : "qkv",
    bytes: linears.reduce((sum, { weightBytes }) => sum + weightBytes, 0),
  });
  return true;
}

/** Linears that share x. */
function together(linears: readonly PlacedLinear[]): ChainLinear {
  return {
    weights: linears.map(({ weights }) => weights),
    biases: linears.map(({ bias }) => bias),
    outputs: linears.map(({ spec }) => spec.out),
    inputs: linears[0]!.spec.in,
  };
}

/** Sums of no inputs: the residual stream goes on as it is. */
function nothingBefore(hidden: number): ChainLinear[] {
  const sum = { weights: [], biases: [], outputs: [hidden], inputs: 0 };
  return [sum, { ...sum, outputs: [] }, sum];
}
