// Which layers go through kernels/linear_chain_rows.cu, as far as a model's description shows it, and where in scratch its launches keep what
// blocks tell each other. Pure numbers: the plan counts them, the runtime uses them.

import type { LayerSpec } from "../../../model/spec.js";
import type { ChainShape } from "./chain-launch.js";
import { type ChainRowsScratch, chainRowsScratch, hasChainRowsKernel } from "./chain-rows-launch.js";
import { areAlike, chainShape, placed } from "./chain-shape.js";

/**
 * A layer's linears, of which q, k and v go in one launch with those behind the attention before, o, gate, up and down in another: all of them
 * or none, so that a layer does not depend on its neighbours.
 *
 * @returns null where no kernel does that
 */
export function chainRowsShape(layer: LayerSpec): ChainShape | null {
  const shape = chainShape(layer, layer);
  return shape && hasChainRowsKernel(shape) && layer.inputNorm.eps === layer.postAttentionNorm.eps ? shape : null;
}

/**
 * Of a stage with these layers: bytes from the beginning of the region to each buffer, and of all of it.
 *
 * @returns null where no layer takes such launches, also where layers differ in width: see chainLayout()
 */
export function chainRowsLayout(layers: readonly LayerSpec[]): (ChainRowsScratch & { readonly bytes: number }) | null {
  const shapes = layers.map(chainRowsShape).filter((shape) => shape !== null);
  if (shapes.length === 0 || !areAlike(layers)) return null;
  return placed(["normed", "squares", "gated", "pieces", "epochs"], shapes.map(chainRowsScratch));
}
