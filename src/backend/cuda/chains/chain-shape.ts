// What goes together in a launch of kernels/linear_chain.cu, as far as a model's description shows it, and where in scratch
// such launches keep what blocks tell each other. Pure numbers: the plan counts them, the runtime uses them.

import type { CacheType } from "../../../memory/packing.js";
import type { LayerSpec, LinearSpec } from "../../../model/spec.js";
import { storageOf } from "../weights/linear-storage.js";
import { type ChainHeads, type ChainScratch, type ChainShape, chainHeads, chainScratch, hasChainKernel } from "./chain-launch.js";

/**
 * The linears between two attentions, that of `layer` and that of `next`: o, gate, up and down of the one, q, k and v of the
 * other. Without `layer` only the latter, without `next` only the former.
 *
 * @returns null where no kernel does that
 */
export function chainShape(layer: LayerSpec | null, next: LayerSpec | null): ChainShape | null {
  if (layer && layer.mlp.kind !== "gated") return null;
  const linears = [...linearsAfter(layer), ...linearsBefore(next)];
  const [first] = linears.map(storageOf);
  if (first?.kind !== "quantized") return null;
  const { group } = first;
  const { bits } = first.format;
  const alike = linears.every((linear) => {
    const storage = storageOf(linear);
    return storage.kind === "quantized" && storage.group === group && storage.format.bits === bits;
  });
  const shape: ChainShape = {
    ...{ bits, group },
    hidden: layer?.attention.o.out ?? linears[0]!.in,
    attention: layer?.attention.o.in ?? 0,
    intermediate: layer?.mlp.kind === "gated" ? layer.mlp.gate.out : 0,
    next: linearsBefore(next).map(({ out }) => out),
  };
  return alike && hasChainKernel(shape) ? shape : null;
}

function linearsAfter(layer: LayerSpec | null): LinearSpec[] {
  if (layer?.mlp.kind !== "gated") return [];
  const { gate, up, down } = layer.mlp;
  return [layer.attention.o, gate, up, down];
}

function linearsBefore(next: LayerSpec | null): LinearSpec[] {
  return next ? [next.attention.q, next.attention.k, next.attention.v] : [];
}

/** A layer that goes through one launch whole, from q, k and v to down. */
export interface WholeLayer {
  readonly shape: ChainShape;
  readonly heads: ChainHeads;
}

/** @returns null where no kernel does that */
export function wholeLayer(layer: LayerSpec, cache: CacheType): WholeLayer | null {
  const shape = chainShape(layer, layer);
  const heads = chainHeads(layer.attention);
  return shape && heads && cache === "f16" ? { shape, heads } : null;
}

/**
 * Of a stage with these layers: bytes from the beginning of the region to each buffer, and of all of it.
 *
 * @returns null where no chain is possible, also where layers differ in width: what lies in a buffer from before would be of
 *   several launches, and packets tell only the last from the next (no architecture that is read has such layers; if one had, its
 *   bits would depend on where it is cut)
 */
export function chainLayout(layers: readonly LayerSpec[], cache: CacheType): (ChainScratch & { readonly bytes: number }) | null {
  const sizes = layers.flatMap((layer) => {
    const whole = wholeLayer(layer, cache);
    if (whole) return [chainScratch(whole.shape, whole.heads)];
    return [chainShape(layer, null), chainShape(null, layer)]
      .filter((shape) => shape !== null)
      .map((shape) => chainScratch(shape));
  });
  if (sizes.length === 0 || !areAlike(layers)) return null;
  return placed(["sums", "gated", "pieces", "epochs", "heads", "gathered", "parts"], sizes);
}

/** Whether layers have the same widths, so that what is in buffers from before is of launches alike. */
export function areAlike(layers: readonly LayerSpec[]): boolean {
  return new Set(layers.map(widthsOf)).size === 1;
}

/** Offsets of buffers that lie one behind the other, each as large as in the largest of `sizes`; and bytes of all. */
export function placed<Part extends string>(
  parts: readonly Part[],
  sizes: readonly Readonly<Record<Part, number>>[],
): Record<Part, number> & { readonly bytes: number } {
  let bytes = 0;
  const offsets = parts.map((part): [Part, number] => {
    const at = bytes;
    bytes += Math.ceil(sizes.reduce((most, size) => Math.max(most, size[part]), 0) / ALIGNMENT) * ALIGNMENT;
    return [part, at];
  });
  return { ...(Object.fromEntries(offsets) as Record<Part, number>), bytes };
}

function widthsOf({ attention, mlp }: LayerSpec): string {
  return `${attention.o.in} ${mlp.kind === "gated" ? mlp.gate.out : 0}`;
}

const ALIGNMENT = 256;
