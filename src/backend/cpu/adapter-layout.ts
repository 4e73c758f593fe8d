// Where the CPU backend keeps adapters: beside each linear that they change, the factors of all
// loaded adapters behind one another in the order of their indices,
//
//   A [total rank][in]          B [tiles of 16 outputs][total rank][16]
//
// in f16, or f32 on the exact path. f16 values are scaled by powers of two, so that the largest of each
// factor comes close to f16's largest and none that matters is below its normal numbers; what
// makes up for it is kept beside them, one f32 per adapter. This file is pure; sizes here are
// what the plan counts.

import { totalRank } from "../../model/adapter.js";
import type { LayerSpec, LinearSpec } from "../../model/spec.js";
import { TILE_ROWS } from "./quantized-layout.js";

/** Bytes of one value of A or B. */
export type AdapterValueBytes = 2 | 4;

/** Regions of one linear, named inside it; none where no adapter changes it. */
export function adapterRegions(linear: LinearSpec, valueBytes: AdapterValueBytes): { name: string; bytes: number }[] {
  const rank = totalRank(linear);
  if (rank === 0) return [];
  return [
    { name: "adapters.a", bytes: rank * linear.in * valueBytes },
    { name: "adapters.b", bytes: Math.ceil(linear.out / TILE_ROWS) * TILE_ROWS * rank * valueBytes },
    { name: "adapters.units", bytes: linear.adapterRanks!.length * 4 },
  ];
}

/** f32 values that one row needs between A and B: linears that read the same x are computed together. */
export function adapterRowValues({ attention: { q, k, v, o }, mlp }: LayerSpec): number {
  const together = (...linears: LinearSpec[]) => linears.reduce((sum, linear) => sum + totalRank(linear), 0);
  const gated = mlp.kind === "gated" ? [together(mlp.gate, mlp.up), together(mlp.down)] : [];
  return Math.max(together(q, k, v), together(o), ...gated);
}
