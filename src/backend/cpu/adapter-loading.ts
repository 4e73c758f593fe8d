// Adapters into their regions, linear by linear. They are small beside a model, and packed here
// by the engine's own thread.

import { ADAPTER_TARGETS, type AdapterTarget, targetLinear, totalRank } from "../../model/adapter.js";
import type { LayerSpec, LinearSpec } from "../../model/spec.js";
import type { AdapterPair, AdapterSource } from "../adapters.js";
import { halfBits } from "../half.js";
import type { LoadSite } from "./loading.js";
import { TILE_ROWS } from "./quantized-layout.js";

/** Names of the targets in a layer's regions: `layers.3.attention.q`. */
function regionName(layer: LayerSpec, target: AdapterTarget): string {
  const part = target === "gate" || target === "up" || target === "down" ? "mlp" : "attention";
  return `layers.${layer.index}.${part}.${target}`;
}

/** @param exact factors are kept in f32 */
export async function loadAdapters(
  site: Pick<LoadSite, "spec" | "regions" | "memories">,
  sources: readonly AdapterSource[],
  exact: boolean,
  signal?: AbortSignal,
): Promise<void> {
  const { spec, regions, memories } = site;
  for (const layer of spec.layers) {
    for (const target of ADAPTER_TARGETS) {
      const linear = targetLinear(layer, target);
      if (!linear || totalRank(linear) === 0) continue;
      signal?.throwIfAborted();
      const name = regionName(layer, target);
      const { arena, offset, bytes } = regions.get(`${name}.adapters.a`);
      const b = regions.get(`${name}.adapters.b`, arena);
      const units = regions.get(`${name}.adapters.units`, arena);
      const view = (at: number, size: number): FactorView => {
        const { buffer } = memories[arena]!;
        return exact ? new Float32Array(buffer, at, size / 4) : new Uint16Array(buffer, at, size / 2);
      };
      const factors = {
        a: view(offset, bytes),
        b: view(b.offset, b.bytes),
        units: new Float32Array(memories[arena]!.buffer, units.offset, units.bytes / 4),
      };
      for (let index = 0, first = 0; index < sources.length; first += linear.adapterRanks![index++]!) {
        if (linear.adapterRanks![index] === 0) continue;
        const pair = await sources[index]!.read(layer.index, target);
        factors.units[index] = place(linear, pair, factors, first, exact);
      }
    }
  }
}

type FactorView = Float32Array | Uint16Array;

/** @returns what A and B are to be multiplied by */
function place(
  linear: LinearSpec,
  { a, b }: AdapterPair,
  to: { readonly a: FactorView; readonly b: FactorView },
  first: number,
  exact: boolean,
): number {
  const total = totalRank(linear);
  const rank = a.length / linear.in;
  const begin = first * linear.in;
  const [unitA, unitB] = exact ? [1, 1] : [unitOf(a), unitOf(b)];
  const value = exact ? (x: number) => x : (x: number, unit: number) => normalHalf(x / unit);
  for (let i = 0; i < a.length; i++) to.a[begin + i] = value(a[i]!, unitA);
  for (let row = 0; row < linear.out; row++) {
    const tile = Math.floor(row / TILE_ROWS);
    for (let r = 0; r < rank; r++) {
      const at = (tile * total + first + r) * TILE_ROWS + (row % TILE_ROWS);
      to.b[at] = value(b[row * rank + r]!, unitB);
    }
  }
  return unitA * unitB;
}

/** A power of two by which the largest value becomes one between 2^14 and 2^15. */
function unitOf(values: Float32Array): number {
  const largest = values.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  return largest === 0 ? 1 : 2 ** (Math.floor(Math.log2(largest)) - 14);
}

/** f16 bits; what lies below f16's normal numbers (2^-28 of the largest value) is nothing. */
function normalHalf(value: number): number {
  const bits = halfBits(value);
  return (bits & 0x7c00) === 0 ? 0 : bits;
}
