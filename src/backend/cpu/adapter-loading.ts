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
      const view = (at: number, size: number): FactorView => {
        const { buffer } = memories[arena]!;
        return exact ? new Float32Array(buffer, at, size / 4) : new Uint16Array(buffer, at, size / 2);
      };
      const factors = { a: view(offset, bytes), b: view(b.offset, b.bytes) };
      for (let index = 0, first = 0; index < sources.length; first += linear.adapterRanks![index++]!)
        if (linear.adapterRanks![index]! > 0)
          place(linear, await sources[index]!.read(layer.index, target), factors, first, exact);
    }
  }
}

type FactorView = Float32Array | Uint16Array;

function place(
  linear: LinearSpec,
  { a, b }: AdapterPair,
  to: { readonly a: FactorView; readonly b: FactorView },
  first: number,
  exact: boolean,
): void {
  const value = exact ? (x: number) => x : halfBits;
  const total = totalRank(linear);
  const rank = a.length / linear.in;
  const begin = first * linear.in;
  for (let i = 0; i < a.length; i++) to.a[begin + i] = value(a[i]!);
  for (let row = 0; row < linear.out; row++) {
    const tile = Math.floor(row / TILE_ROWS);
    for (let r = 0; r < rank; r++) to.b[(tile * total + first + r) * TILE_ROWS + (row % TILE_ROWS)] = value(b[row * rank + r]!);
  }
}
