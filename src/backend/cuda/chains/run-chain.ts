// One token through what lies between two attentions in one launch (kernels/linear_chain.cu: o, gate and up, down, and q, k
// and v of the layer that follows), or through whole layers, attention included (kernels/chain_layers.cu). Both multiply
// with the same code and deal out each linear alike, and whether a layer's attention is inside is decided by that layer
// alone: so the bits of an answer do not depend on where a model is cut.

import { isDeepStrictEqual } from "node:util";
import type { CacheType } from "../../../memory/packing.js";
import type { KernelQueue } from "../launch/kernel-queue.js";
import type { PlacedLayer, PlacedLinear, Stage } from "../steps/stage.js";
import { chainLaunch } from "./chain-launch.js";
import { type ChainLayerPlaces, chainLayersParameters, chainParameters, MOST_CHAIN_LAYERS } from "./chain-parameters.js";
import { chainLayout, chainShape, type WholeLayer, wholeLayer } from "./chain-shape.js";

export interface ChainCall {
  /** f16 [inputs of o]: what attention has left. */
  readonly x: bigint;
  /** f32 [hidden], added to. */
  readonly residual: bigint;
  /** f16: where the next attention reads q, k and v; may be where x is. */
  readonly y: readonly bigint[];
}

export interface LayersCall {
  /** f32 [hidden], added to. */
  readonly residual: bigint;
  /** f32 pairs [headDim / 2]: cosines and sines of the token */
  readonly table: bigint;
  /** i32 [1]; −1: an idle row */
  readonly position: bigint;
  /** Of each cache group: pages of the sequence. */
  readonly pages: readonly bigint[];
}

/** What blocks tell each other, see chainScratch(): zero before the first launch, and from there on the kernel's own. */
export interface ChainPlaces {
  readonly sums: bigint;
  readonly gated: bigint;
  readonly pieces: bigint;
  readonly epochs: bigint;
  readonly heads: bigint;
  readonly gathered: bigint;
  readonly parts: bigint;
}

/** @returns null where no layer of the stage can use them */
export function chainPlaces(stage: Stage, cache: CacheType): ChainPlaces | null {
  const layout = chainLayout(
    stage.layers.map(({ spec }) => spec),
    cache,
  );
  if (!layout) return null;
  const at = (offset: number) => stage.at("scratch.chain") + BigInt(offset);
  return {
    ...{ sums: at(layout.sums), gated: at(layout.gated), pieces: at(layout.pieces), epochs: at(layout.epochs) },
    ...{ heads: at(layout.heads), gathered: at(layout.gathered), parts: at(layout.parts) },
  };
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
  { sums, gated, pieces, epochs }: ChainPlaces,
): boolean {
  const shape = chainShape(layer?.spec ?? null, next?.spec ?? null);
  const launch = shape && chainLaunch(shape, queue.context.card);
  const linears = [...(layer ? linearsAfter(layer) : []), ...(next ? linearsBefore(next) : [])];
  if (!launch || !linears.every(isInOrder)) return false;
  const [eps, other = eps] = [layer?.spec.postAttentionNorm.eps, next?.spec.inputNorm.eps].filter((eps) => eps !== undefined);
  if (eps !== other) return false;
  const { name, grid, block, shared } = launch;
  queue.run({
    ...{ family: "linear_chain", name, grid: [grid], block, shared, together: true },
    parameters: chainParameters(
      ...([launch, shape, { residual, eps: eps!, sums, gated, pieces, epochs }, { attention: x, y }] as const),
      layer && placesOf(layer, 0n),
      next && placesOf(next, 0n),
    ),
    role: layer ? `o to ${next ? "qkv" : "down"}` : "qkv",
    bytes: linears.reduce((sum, { weightBytes }) => sum + weightBytes, 0),
  });
  return true;
}

/** How many of these layers, from the first on, go in one launch; 0: not even the first does. */
export function layersTogether(queue: KernelQueue, layers: readonly PlacedLayer[], cache: CacheType): number {
  const first = layers[0] && wholeOf(queue, layers[0], cache);
  if (!first) return 0;
  let count = 1;
  while (count < Math.min(layers.length, MOST_CHAIN_LAYERS)) {
    const layer = layers[count]!;
    const whole = wholeOf(queue, layer, cache);
    if (!isDeepStrictEqual([whole, epsOf(layer)], [first, epsOf(layers[0]!)])) break;
    count++;
  }
  return count;
}

/** @param layers as layersTogether() has counted them */
export function runLayers(
  queue: KernelQueue,
  layers: readonly PlacedLayer[],
  { residual, table, position, pages }: LayersCall,
  { sums, gated, pieces, epochs, ...packets }: ChainPlaces,
): void {
  const [{ spec }] = layers as [PlacedLayer];
  const { shape, heads } = wholeLayer(spec, "f16")!;
  const launch = chainLaunch(shape, queue.context.card, { heads })!;
  const { name, grid, block, shared } = launch;
  const [eps, headEps] = epsOf(layers[0]!);
  queue.run({
    ...{ family: "chain_layers", name, grid: [grid], block, shared, together: true },
    parameters: chainLayersParameters(
      launch,
      shape,
      { residual, eps, sums, gated, pieces, epochs },
      { shape: heads, table, position, headEps, ...packets },
      layers.map((layer) => placesOf(layer, pages[layer.group]!)),
    ),
    role: "layers",
    bytes: layers
      .flatMap((layer) => [...linearsBefore(layer), ...linearsAfter(layer)])
      .reduce((sum, { weightBytes }) => sum + weightBytes, 0),
    attentions: layers.length,
  });
}

/** What a whole layer is to this card, or null. */
function wholeOf({ context }: KernelQueue, layer: PlacedLayer, cache: CacheType): WholeLayer | null {
  const whole = wholeLayer(layer.spec, cache);
  if (!whole || ![...linearsBefore(layer), ...linearsAfter(layer)].every(isInOrder)) return null;
  return epsOf(layer)[0] === layer.spec.postAttentionNorm.eps && chainLaunch(whole.shape, context.card, whole) ? whole : null;
}

/** Of the norms over the hidden state, and over heads. */
function epsOf({ spec: { inputNorm, attention } }: PlacedLayer): readonly [eps: number, headEps: number] {
  return [inputNorm.eps, (attention.qNorm ?? attention.kNorm)?.eps ?? 0];
}

/** Behind a layer's attention, and ahead of it. */
export const linearsAfter = ({ o, gate, up, down }: PlacedLayer): PlacedLinear[] => [o, gate, up, down];
export const linearsBefore = ({ q, k, v }: PlacedLayer): PlacedLinear[] => [q, k, v];
/** Whether its inputs lie in their own order, in groups of one length. */
export const isInOrder = ({ permutation, groupOf }: PlacedLinear): boolean => permutation === 0n && groupOf === 0n;

/** @param pages of the sequence, where attention is inside */
export function placesOf(layer: PlacedLayer, pages: bigint): ChainLayerPlaces {
  const { q, k, v, o, gate, up, down, norms, keys, values, spec } = layer;
  return {
    ...{ o: o.weights, gate: gate.weights, up: up.weights, down: down.weights, q: q.weights, k: k.weights, v: v.weights },
    ...{ oBias: o.bias, gateBias: gate.bias, upBias: up.bias, downBias: down.bias, qBias: q.bias, kBias: k.bias, vBias: v.bias },
    ...{ inNorm: norms.input, norm: norms.postAttention, qNorm: norms.q, kNorm: norms.k },
    ...{ kCache: keys, vCache: values, pages, window: spec.attention.window ?? 0, unused: 0 },
  };
}
