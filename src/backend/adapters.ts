// What both backends are handed of an adapter, and how a request's choice of adapters is held
// against those that are loaded.

import type { AdapterSpec, AdapterTarget, AdapterUse } from "../model/adapter.js";

/** One linear's part of an adapter, with its scale folded into B. */
export interface AdapterPair {
  /** [rank, in] */
  readonly a: Float32Array;
  /** [out, rank] */
  readonly b: Float32Array;
}

/** An adapter whose weights can be read. */
export interface AdapterSource {
  readonly spec: AdapterSpec;
  /** Bytes that all of it takes in its file. */
  readonly bytes: number;
  /** The pair of a linear that the spec gives a rank. */
  read(layer: number, target: AdapterTarget): Promise<AdapterPair>;
}

/** What is wrong with a batch entry's adapters, or `null`. @param loaded how many there are */
export function adapterFault(uses: readonly AdapterUse[], loaded: number): string | null {
  const seen = new Set<number>();
  for (const { index, weight } of uses) {
    if (!Number.isInteger(index) || index < 0 || index >= loaded) return `adapter ${index} is none of the ${loaded} loaded`;
    if (seen.has(index)) return `adapter ${index} is named twice`;
    if (!Number.isFinite(weight) || weight === 0) return `adapter ${index} has weight ${weight}`;
    seen.add(index);
  }
  return null;
}
