// The structure that kernels/linear_chain_rows.cu takes: the shapes of four linears, buffers and what is around them, and where two layers'
// own things lie.

import { writeParametersAt } from "../launch/parameter-layout.js";
import type { ChainShape } from "./chain-launch.js";
import { CHAIN_LAYER, CHAIN_ROWS, CHAIN_SHAPE } from "./chain-layouts.js";
import { type ChainEnds, type ChainLayerPlaces, stageMagic, writeLayers, writeShapes } from "./chain-parameters.js";
import type { ChainRowsLaunch } from "./chain-rows-launch.js";

export interface ChainRowsBuffers {
  /** f32 [rows, hidden] */
  readonly residual: bigint;
  /** Of all RMSNorms over the hidden state. */
  readonly eps: number;
  /** Packets and counters, see chainRowsScratch(); zero before the first launch. */
  readonly normed: bigint;
  readonly squares: bigint;
  readonly gated: bigint;
  readonly pieces: bigint;
  readonly epochs: bigint;
}

/** What is around a link; attention's output f16 [rows, inputs of o], q, k and v f16 [rows, outputs] each. */
export interface ChainRowsEnds extends ChainEnds {
  readonly rows: number;
  /** f32 [rows]: factors of the norm before the first one of the launch. */
  readonly carried: bigint;
  /** f32 [rows]: where those of its last norm go; may be where `carried` is. */
  readonly left: bigint;
}

/** @param after the layer whose attention has been done, or null; @param next the one whose attention follows, or null */
export function chainRowsParameters(
  { stages, xAt, sumsAt, flying, splitBits, shares }: ChainRowsLaunch,
  shape: ChainShape,
  buffers: ChainRowsBuffers,
  { attention, y, rows, carried, left }: ChainRowsEnds,
  after: ChainLayerPlaces | null,
  next: ChainLayerPlaces | null,
): Uint8Array<ArrayBuffer> {
  const layers = [after, next].filter((layer) => layer !== null);
  const [y0 = 0n, y1 = 0n, y2 = 0n] = y;
  const at = shares.length * CHAIN_SHAPE.bytes;
  const layersAt = at + CHAIN_ROWS.bytes;
  const bytes = new Uint8Array(layersAt + 2 * CHAIN_LAYER.bytes);
  const view = new DataView(bytes.buffer);
  writeShapes(view, 0, shape, shares);
  writeParametersAt(view, at, CHAIN_ROWS, {
    ...buffers,
    ...{ attention, y0, y1, y2, carried, left, m: rows, firstLink: after ? 0 : -1, layers: layers.length },
    ...{ stages, stageMagic: stageMagic(stages), xAt, sumsAt, flying, splitBits },
  });
  writeLayers(view, layersAt, layers);
  return bytes;
}
