// What a placement is asked: entries with their caps, what runs of layers cost, and which of the
// possible placements counts as best. placement.ts answers, completions.ts looks ahead.

import type { CostTable } from "./run-costs.js";

/** One entry of the device list, in bytes. */
export interface PlacementEntry {
  /** Most that may be used here, the baseline included. */
  readonly cap: number;
  /** Charged to the first used entry of each card. */
  readonly baseline: number;
  readonly card: string;
  /** With `closest`: what may not be exceeded even so; default nothing. */
  readonly most?: number;
}

export interface PlacementProblem {
  readonly entries: readonly PlacementEntry[];
  readonly layerCount: number;
  /** See stage-costs.ts. */
  readonly costs: CostTable;
  /** Bytes of a draft model, placed whole on one entry; 0 for none. */
  readonly draft: number;
}

/**
 * `even`: the largest use/cap is smallest, then the next largest, and so on. `fewest`: as few
 * entries as possible, then evenly. `fill`: as many layers as possible on each entry in turn,
 * as long as the rest still finds room. Ties: the lexicographically smallest layer counts.
 * `closest` is for refusals: caps may be exceeded, the worst overshoot in bytes is smallest.
 */
export type PlacementRule = "even" | "fewest" | "fill" | "closest";
