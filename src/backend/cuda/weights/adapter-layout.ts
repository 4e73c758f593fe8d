// Where a card keeps adapters: beside each linear that they change, the factors of all loaded
// adapters behind one another, each adapter's ranks filled up to octets with zeros (lora.cu):
// A f16 [ranks, in], B f16 [ranks, out] as it is read, and the adapter of each octet. Pure.

import type { LayerSpec, LinearSpec } from "../../../model/spec.js";

/** Ranks that a block computes; all of one adapter. */
export const OCTET = 8;

/** Ranks of each adapter on this linear, filled up. */
export function paddedRanks({ adapterRanks = [] }: Pick<LinearSpec, "adapterRanks">): number[] {
  return adapterRanks.map((rank) => Math.ceil(rank / OCTET) * OCTET);
}

/** Ranks of all adapters on this linear, filled up; 0: none changes it. */
export function paddedRank(linear: Pick<LinearSpec, "adapterRanks">): number {
  return paddedRanks(linear).reduce((sum, rank) => sum + rank, 0);
}

/** Regions of one linear, named inside it. */
export function adapterRegions(linear: LinearSpec): { name: string; bytes: number }[] {
  const ranks = paddedRank(linear);
  if (ranks === 0) return [];
  return [
    { name: "adapters.a", bytes: ranks * linear.in * 2 },
    { name: "adapters.b", bytes: ranks * linear.out * 2 },
    { name: "adapters.owners", bytes: (ranks / OCTET) * 4 }, // i32 [octets]
  ];
}

/** f32 values that one row needs between A and B: linears that read the same x are launched together. */
export function adapterRowValues({ attention: { q, k, v, o }, mlp }: LayerSpec): number {
  const together = (...linears: LinearSpec[]) => linears.reduce((sum, linear) => sum + paddedRank(linear), 0);
  const gated = mlp.kind === "gated" ? [together(mlp.gate, mlp.up), together(mlp.down)] : [];
  return Math.max(together(q, k, v), together(o), ...gated);
}
