// Low-rank adapters as data: which of a model's linears they change, and at which rank. A linear
// with adapters computes y = W x + Σ weight · B (A x), A [rank, in] and B [out, rank] with the
// adapter's own scale folded in. An adapter's index is its place in the list that was loaded.

import type { LayerSpec, LinearSpec, ModelSpec } from "./spec.js";

/** The linears of a layer that an adapter can change. */
export const ADAPTER_TARGETS = ["q", "k", "v", "o", "gate", "up", "down"] as const;
export type AdapterTarget = (typeof ADAPTER_TARGETS)[number];

/** Rank for each linear that is changed; the others are missing. */
export type AdapterLayer = Readonly<Partial<Record<AdapterTarget, number>>>;

export interface AdapterSpec {
  /** By which requests ask for it. */
  readonly name: string;
  /** Per layer of the model. */
  readonly layers: readonly AdapterLayer[];
}

/** An adapter that takes part in a request. */
export interface AdapterUse {
  /** Which of the model's adapters. */
  readonly index: number;
  /** Multiplies what it adds; not 0. */
  readonly weight: number;
}

/** Largest rank anywhere in an adapter. */
export function adapterRank({ layers }: AdapterSpec): number {
  return layers.reduce((most, layer) => Math.max(most, ...Object.values(layer)), 0);
}

/** Sum of a linear's ranks over all adapters; 0: no adapter changes it. */
export function totalRank({ adapterRanks = [] }: Pick<LinearSpec, "adapterRanks">): number {
  return adapterRanks.reduce((sum, rank) => sum + rank, 0);
}

/** The same model with adapters loaded beside its weights. */
export function withAdapters(spec: ModelSpec, adapters: readonly AdapterSpec[]): ModelSpec {
  if (adapters.length === 0) return spec;
  return { ...spec, adapters, layers: spec.layers.map((layer) => adaptedLayer(layer, adapters)) };
}

function adaptedLayer(layer: LayerSpec, adapters: readonly AdapterSpec[]): LayerSpec {
  const adapted = (target: AdapterTarget, linear: LinearSpec): LinearSpec => {
    const adapterRanks = adapters.map(({ layers }) => layers[layer.index]?.[target] ?? 0);
    return adapterRanks.some((rank) => rank > 0) ? { ...linear, adapterRanks } : linear;
  };
  const { attention, mlp } = layer;
  return {
    ...layer,
    attention: {
      ...attention,
      q: adapted("q", attention.q),
      k: adapted("k", attention.k),
      v: adapted("v", attention.v),
      o: adapted("o", attention.o),
    },
    mlp:
      mlp.kind === "gated"
        ? { ...mlp, gate: adapted("gate", mlp.gate), up: adapted("up", mlp.up), down: adapted("down", mlp.down) }
        : mlp,
  };
}

/** The linear of a layer that a target means. */
export function targetLinear({ attention, mlp }: LayerSpec, target: AdapterTarget): LinearSpec | null {
  if (target === "q" || target === "k" || target === "v" || target === "o") return attention[target];
  return mlp.kind === "gated" ? mlp[target] : null;
}
