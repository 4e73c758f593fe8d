// What a decode step has to read, from the plan: all weights once, and each sequence's keys and
// values. An embedding table that only gives a row for each token is not read; what a step writes
// is next to nothing.

import { type DevicePlan, PAGE_TOKENS, type Plan } from "../../memory/plan.js";

export interface StepTraffic {
  /** Bytes that every step reads, whatever it holds. */
  readonly weights: number;
  /** Keys and values of one sequence of so many tokens, bytes; layers with a window hold no more than that. */
  cache(held: number): number;
}

export function stepTraffic(plan: Plan): StepTraffic {
  const regions = plan.devices.flatMap(({ stage }: DevicePlan) => stage?.regions ?? []);
  const weights = regions
    .filter(({ area, name }) => area === "weights" && name !== "embedding.rows")
    .reduce((sum, { bytes }) => sum + bytes, 0);
  const groups = plan.cacheGroups.map(({ window, layers, pages }) => {
    const ours = new Set(layers);
    const pool = regions
      .filter(({ area, name }) => area === "kvCache" && ours.has(Number(/^layers\.(\d+)\./.exec(name)?.[1])))
      .reduce((sum, { bytes }) => sum + bytes, 0);
    return { window, bytesPerToken: pool / (pages * PAGE_TOKENS) };
  });
  return {
    weights,
    cache: (held) => groups.reduce((sum, { window, bytesPerToken }) => sum + bytesPerToken * Math.min(held, window ?? held), 0),
  };
}
