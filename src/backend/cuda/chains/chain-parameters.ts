// The structures that kernels/linear_chain.cu and chain_layers.cu take: buffers, the shapes of four linears, what is around
// them or attention, and where each layer's own things lie.

import type { ParameterValues } from "../launch/parameter-layout.js";
import { writeParametersAt } from "../launch/parameter-layout.js";
import type { ChainHeads, ChainLaunch, ChainShape } from "./chain-launch.js";
import { CHAIN, CHAIN_ATTENTION, CHAIN_ENDS, CHAIN_LAYER, CHAIN_SHAPE } from "./chain-layouts.js";

/** kMostChainLayers: layers of a launch of chain_layers.cu. */
export const MOST_CHAIN_LAYERS = 96;

/** Addresses of a layer's row tiles, biases, norms, keys, values and pages; 0n for what it has not, or a launch does not need. */
export type ChainLayerPlaces = ParameterValues<typeof CHAIN_LAYER.fields>;

export interface ChainBuffers {
  /** f32 [hidden] */
  readonly residual: bigint;
  /** Of all RMSNorms over the hidden state. */
  readonly eps: number;
  /** Packets and counters, see chainScratch(); zero before the first launch. */
  readonly sums: bigint;
  readonly gated: bigint;
  readonly pieces: bigint;
  readonly epochs: bigint;
}

/** A link between two attentions that are launches of their own. */
export interface ChainEnds {
  /** f16 [inputs of o] */
  readonly attention: bigint;
  /** f16, q, k and v; empty where no layer follows. */
  readonly y: readonly bigint[];
}

export interface ChainAttention {
  readonly shape: ChainHeads;
  /** f32 pairs [headDim / 2]: cosines and sines of the token */
  readonly table: bigint;
  /** i32 [1]; −1: an idle row */
  readonly position: bigint;
  /** Packets, see chainScratch(). */
  readonly heads: bigint;
  readonly gathered: bigint;
  readonly parts: bigint;
  readonly headEps: number;
}

/** @param after the layer whose attention has been done, or null; @param next the one whose attention follows, or null */
export function chainParameters(
  launch: ChainLaunch,
  shape: ChainShape,
  buffers: ChainBuffers,
  { attention, y }: ChainEnds,
  after: ChainLayerPlaces | null,
  next: ChainLayerPlaces | null,
): Uint8Array<ArrayBuffer> {
  const layers = [after, next].filter((layer) => layer !== null);
  const links = { firstLink: after ? 0 : -1, links: 1, layers: layers.length };
  const { bytes, view, at } = begin(launch, shape, buffers, links, CHAIN_ENDS.bytes, 2);
  const [y0 = 0n, y1 = 0n, y2 = 0n] = y;
  writeParametersAt(view, at, CHAIN_ENDS, { attention, y0, y1, y2 });
  writeLayers(view, at + CHAIN_ENDS.bytes, layers);
  return bytes;
}

/** @param layers at most MOST_CHAIN_LAYERS, of the same shape */
export function chainLayersParameters(
  launch: ChainLaunch,
  shape: ChainShape,
  buffers: ChainBuffers,
  { shape: attention, ...places }: ChainAttention,
  layers: readonly ChainLayerPlaces[],
): Uint8Array<ArrayBuffer> {
  const links = { firstLink: -1, links: layers.length + 1, layers: layers.length };
  const { bytes, view, at } = begin(launch, shape, buffers, links, CHAIN_ATTENTION.bytes, MOST_CHAIN_LAYERS);
  writeParametersAt(view, at, CHAIN_ATTENTION, {
    ...places,
    queryHeads: attention.heads,
    kvHeads: attention.kvHeads,
    group: attention.heads / attention.kvHeads,
    mostParts: launch.parts,
    scale: Math.LOG2E / Math.sqrt(attention.headDim),
  });
  writeLayers(view, at + CHAIN_ATTENTION.bytes, layers);
  return bytes;
}

/** What every launch takes, and where what differs begins. */
function begin(
  { stages, xAt, spansAt, partialAt, flying, flyingTiles, xPitch, shares }: ChainLaunch,
  shape: ChainShape,
  buffers: ChainBuffers,
  links: { firstLink: number; links: number; layers: number },
  middle: number,
  layers: number,
): { bytes: Uint8Array<ArrayBuffer>; view: DataView; at: number } {
  const at = CHAIN.bytes + shares.length * CHAIN_SHAPE.bytes;
  const bytes = new Uint8Array(at + middle + layers * CHAIN_LAYER.bytes);
  const view = new DataView(bytes.buffer);
  const places = { stages, stageMagic: stageMagic(stages), xAt, spansAt, partialAt, xPitch, flying, flyingTiles };
  writeParametersAt(view, 0, CHAIN, { ...buffers, ...links, ...places });
  writeShapes(view, CHAIN.bytes, shape, shares);
  return { bytes, view, at };
}

/** By which kernels multiply to divide by the stages of the ring. */
export function stageMagic(stages: number): number {
  return Math.ceil(2 ** 20 / stages);
}

/** CHAIN_SHAPE of each of four linears. */
export function writeShapes(
  view: DataView,
  begin: number,
  { hidden, attention, intermediate, next }: ChainShape,
  shares: ChainLaunch["shares"],
): void {
  const outputs = [[hidden], [intermediate, intermediate], [hidden], next];
  [attention, hidden, intermediate, hidden].forEach((k, i) => {
    const [n0 = 0, n1 = 0, n2 = 0] = outputs[i]!;
    writeParametersAt(view, begin + i * CHAIN_SHAPE.bytes, CHAIN_SHAPE, { n0, n1, n2, k, ...shares[i]! });
  });
}

export function writeLayers(view: DataView, at: number, layers: readonly ChainLayerPlaces[]): void {
  for (const [i, layer] of layers.entries()) writeParametersAt(view, at + i * CHAIN_LAYER.bytes, CHAIN_LAYER, layer);
}
