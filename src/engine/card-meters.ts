// What cards tell of themselves while a model runs in another process: the energy that they have
// used, and afterwards what reading alone reaches on them. For benchmarks.

import { measureReadRate } from "../backend/cuda/cards/read-rate.js";
import type { Plan } from "../memory/plan.js";
import { findGpus, type Gpus } from "./gpus.js";

export interface CardMeters {
  /** Of the first card; `null` on the CPU. */
  readonly card: string | null;
  /** Version of the driver; `null` on the CPU. */
  readonly driver: string | null;
  /** Energy that the plan's cards have used since some moment, joules; `null` where one of them does not count it. */
  joules(): number | null;
  /**
   * Bytes per second of a kernel that only reads, on the first of the plan's cards; `null` on the
   * CPU. Takes a context and memory there for a moment: once the model has been given back.
   */
  readRate(): number | null;
}

/** Meters of the cards that a plan uses. */
export function openCardMeters(plan: Plan, find: () => Gpus = findGpus): CardMeters {
  const used = new Set(plan.devices.filter(({ total }) => total > 0).map(({ card }) => card));
  const { cards, sources } = plan.packing === "cuda" ? find() : { cards: [], sources: null };
  const ours = cards.filter(({ uuid }) => used.has(uuid));
  const [first] = ours;
  if (!first || !sources) return { card: null, driver: null, joules: () => null, readRate: () => null };
  const handles = ours.map(({ uuid }) => sources.nvml.find(uuid));
  return {
    card: first.name,
    driver: first.driver,
    joules: () =>
      handles.reduce((sum: number | null, handle) => {
        const energy = handle === null ? null : sources.nvml.energy(handle);
        return sum === null || energy === null ? null : sum + energy;
      }, 0),
    readRate: () => measureReadRate(sources, first),
  };
}
