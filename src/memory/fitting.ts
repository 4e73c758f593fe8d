// One model (and its draft) against one list of caps: what a run shape costs, whether it fits,
// where everything goes, and how long a context may become.

import type { ModelSpec } from "../model/spec.js";
import { isFeasible } from "./feasible.js";
import type { CacheType, Packing, RunShape } from "./packing.js";
import { type Placement, type PlacementEntry, type PlacementProblem, type PlacementRule, place } from "./placement.js";
import { CONTEXT_STEP, MOST_CONTEXT, type PlanSettings, runShape } from "./plan-request.js";
import { StageCosts } from "./stage-costs.js";

export class Fitting {
  readonly #costs: StageCosts;
  readonly #draftCosts: StageCosts | null;
  readonly #settings: PlanSettings;
  readonly #entries: readonly PlacementEntry[];
  readonly #largest = new Map<CacheType, number>();

  constructor(
    spec: ModelSpec,
    draft: ModelSpec | null,
    packing: Packing,
    settings: PlanSettings,
    entries: readonly PlacementEntry[],
  ) {
    this.#costs = new StageCosts(spec, packing);
    this.#draftCosts = draft && new StageCosts(draft, packing);
    this.#settings = settings;
    this.#entries = entries;
  }

  run(context: number, cacheType: CacheType): RunShape {
    return runShape(this.#settings, context, cacheType);
  }

  /** The placement problem of a run shape, over the caps or over other entries of the same devices. */
  problem(run: RunShape, entries = this.#entries): PlacementProblem {
    const draft = this.#draftCosts?.whole(run) ?? 0;
    return { entries, layerCount: this.#costs.layerCount, costs: this.#costs.table(run), draft };
  }

  fits(context: number, cacheType: CacheType): boolean {
    return isFeasible(this.problem(this.run(context, cacheType)));
  }

  place(run: RunShape, rule: PlacementRule): Placement | null {
    return place(this.problem(run), rule);
  }

  /** Largest context, in steps of 256 tokens up to 2²⁴, that fits in memory whatever the model's limit; 0 where none does. */
  largest(cacheType: CacheType): number {
    let found = this.#largest.get(cacheType);
    if (found === undefined) {
      found = this.largestUpTo(MOST_CONTEXT, cacheType);
      this.#largest.set(cacheType, found);
    }
    return found;
  }

  /** Largest multiple of 256 tokens, up to `most`, that fits. */
  largestUpTo(most: number, cacheType: CacheType): number {
    const known = this.#largest.get(cacheType);
    if (known !== undefined) return Math.min(known, Math.floor(most / CONTEXT_STEP) * CONTEXT_STEP);
    let fitting = 0; // steps that fit
    let failing = Math.floor(most / CONTEXT_STEP) + 1; // steps that do not, or that nobody asks for
    let probe = 32;
    while (failing - fitting > 1) {
      // away from both ends at first: contexts are far nearer to thousands than to millions
      const steps = Math.min(probe, fitting + Math.ceil((failing - fitting) / 2));
      if (this.fits(steps * CONTEXT_STEP, cacheType)) fitting = steps;
      else failing = steps;
      probe = fitting === steps ? probe * 4 : Number.POSITIVE_INFINITY;
    }
    return fitting * CONTEXT_STEP;
  }
}
