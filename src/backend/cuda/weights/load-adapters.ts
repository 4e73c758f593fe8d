// Adapters into their regions, linear by linear: packed by the host, for they are small beside a
// model, and copied once.

import { ADAPTER_TARGETS, type AdapterTarget } from "../../../model/adapter.js";
import type { LinearSpec } from "../../../model/spec.js";
import type { AdapterPair, AdapterSource } from "../../adapters.js";
import { halfBits } from "../../half.js";
import type { Stage } from "../steps/stage.js";
import { OCTET, paddedRank, paddedRanks } from "./adapter-layout.js";

export async function loadAdapters(
  stages: readonly Stage[],
  sources: readonly AdapterSource[],
  signal: AbortSignal | undefined,
): Promise<void> {
  for (const stage of stages) {
    for (const layer of stage.layers) {
      for (const target of ADAPTER_TARGETS) {
        const { adapters, spec } = layer[target];
        if (!adapters) continue;
        signal?.throwIfAborted();
        const packed = packFactors(spec, await pairsOf(spec, sources, layer.spec.index, target));
        stage.context.use();
        stage.context.copyIn(adapters.a, packed.a);
        stage.context.copyIn(adapters.b, packed.b);
        stage.context.copyIn(adapters.owners, packed.owners);
        // The host's copies may go when the card has them.
        stage.context.synchronize();
      }
    }
  }
}

/** By adapter; `null` where one leaves the linear alone. */
async function pairsOf(
  { adapterRanks = [] }: LinearSpec,
  sources: readonly AdapterSource[],
  layer: number,
  target: AdapterTarget,
): Promise<(AdapterPair | null)[]> {
  const pairs: (AdapterPair | null)[] = [];
  for (const [index, rank] of adapterRanks.entries()) pairs.push(rank > 0 ? await sources[index]!.read(layer, target) : null);
  return pairs;
}

/** The regions' contents: A [ranks, in], B [ranks, out], owner of each octet. */
export function packFactors(
  linear: Pick<LinearSpec, "in" | "out" | "adapterRanks">,
  pairs: readonly (AdapterPair | null)[],
): { a: Uint16Array; b: Uint16Array; owners: Int32Array } {
  const { in: inputs, out } = linear;
  const total = paddedRank(linear);
  const a = new Uint16Array(total * inputs);
  const b = new Uint16Array(total * out);
  const owners = new Int32Array(total / OCTET);
  let first = 0;
  for (const [index, padded] of paddedRanks(linear).entries()) {
    const pair = pairs[index];
    owners.fill(index, first / OCTET, (first + padded) / OCTET);
    if (pair) {
      const rank = linear.adapterRanks![index]!;
      for (let i = 0; i < rank * inputs; i++) a[first * inputs + i] = halfBits(pair.a[i]!);
      for (let row = 0; row < out; row++)
        for (let r = 0; r < rank; r++) b[(first + r) * out + row] = halfBits(pair.b[row * rank + r]!);
    }
    first += padded;
  }
  return { a, b, owners };
}
