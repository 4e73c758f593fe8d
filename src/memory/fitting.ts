// One model (and its draft) against one list of caps: what a run shape costs, whether it fits,
// where everything goes, and how long a context may become.

import type { ModelSpec } from "../model/spec.js";
import { Completions } from "./completions.js";
import { fitsInOrder } from "./fits-in-order.js";
import type { CacheType, Packing, RunShape } from "./packing.js";
import { type Placement, place } from "./placement.js";
import type { PlacementEntry, PlacementProblem, PlacementRule } from "./placement-problem.js";
import { CONTEXT_STEP, MOST_CONTEXT, type PlanSettings, runShape } from "./plan-request.js";
import { StageCosts } from "./stage-costs.js";

export class Fitting {
  readonly #costs: StageCosts;
  readonly #draftCosts: StageCosts | null;
  readonly #settings: PlanSettings;
  readonly #entries: readonly PlacementEntry[];
  /** Whether fitsInOrder() has the answer. */
  readonly #inOrder: boolean;
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
    const cardsDiffer = new Set(entries.map(({ card }) => card)).size === entries.length;
    this.#inOrder = cardsDiffer && draft === null && this.#costs.growing;
  }

  /** The run shape for a context: with the largest prefill chunk that fits or, where none does, the smallest. */
  run(context: number, cacheType: CacheType): RunShape {
    const runs = this.#settings.prefillChunks.map((chunk) => runShape(this.#settings, context, cacheType, chunk));
    return runs.slice(0, -1).find((run) => this.#fits(run)) ?? runs.at(-1)!;
  }

  /** The placement problem of a run shape, over the caps or over other entries of the same devices. */
  problem(run: RunShape, entries = this.#entries): PlacementProblem {
    return { entries, layerCount: this.#costs.layerCount, costs: this.#costs.of(run).table(), draft: this.#draftBytes(run) };
  }

  fits(context: number, cacheType: CacheType): boolean {
    return this.#fits(this.#leastRun(context, cacheType));
  }

  /** The run shape that takes least. */
  #leastRun(context: number, cacheType: CacheType): RunShape {
    return runShape(this.#settings, context, cacheType, this.#settings.prefillChunks.at(-1)!);
  }

  #fits(run: RunShape): boolean {
    if (this.#room(run) < 0) return false;
    if (!this.#inOrder) return new Completions(this.problem(run), "even").possible;
    const costs = this.#costs.of(run);
    return fitsInOrder(this.#entries, this.#costs.layerCount, (first, count) => costs.stage(first, count));
  }

  place(run: RunShape, rule: PlacementRule): Placement | null {
    return place(this.problem(run), rule);
  }

  /** Largest context, in steps of 256 tokens up to 2²⁴, that fits in memory whatever the model's limit; 0 where none does. */
  largest(cacheType: CacheType): number {
    let found = this.#largest.get(cacheType);
    if (found === undefined) {
      found = this.#search(MOST_CONTEXT / CONTEXT_STEP, cacheType) * CONTEXT_STEP;
      this.#largest.set(cacheType, found);
    }
    return found;
  }

  /** Largest multiple of 256 tokens, up to `most`, that fits. */
  largestUpTo(most: number, cacheType: CacheType): number {
    return Math.min(this.largest(cacheType), Math.floor(most / CONTEXT_STEP) * CONTEXT_STEP);
  }

  /**
   * Most steps of context that fit. Sums alone give an upper end. Where it takes a look at all placements to know whether
   * one fits, the placement that comes closest there, shrunk until it fits, gives a lower end that is nearly always the answer.
   */
  #search(most: number, cacheType: CacheType): number {
    const run = (steps: number) => this.#leastRun(steps * CONTEXT_STEP, cacheType);
    const fits = (steps: number) => this.#fits(run(steps));
    const upper = lastWithRoom(most, (steps) => this.#room(run(steps)));
    if (upper === 0 || fits(upper)) return upper;
    if (this.#inOrder) return lastTrue(0, upper, fits);
    const closest = this.place(run(upper), "closest");
    let fitting = closest ? lastWithRoom(upper, (steps) => this.#roomOf(closest, run(steps))) : 0;
    let failing = upper;
    for (let step = 1; fitting + step < failing; step *= 2) {
      if (fits(fitting + step)) fitting += step;
      else failing = fitting + step;
    }
    return lastTrue(fitting, failing, fits);
  }

  /** Bytes that all caps together leave over; below 0, no placement needs to be looked for. */
  #room(run: RunShape): number {
    const least = this.#costs.of(run).least + (this.#draftCosts?.of(run).least ?? 0);
    return this.#entries.reduce((sum, { cap }) => sum + cap, 0) - least;
  }

  /** Bytes that a placement with another run shape leaves over where it leaves least; below 0, it does not keep to the caps. */
  #roomOf({ counts, use, draftEntry }: Placement, run: RunShape): number {
    const costs = this.#costs.of(run);
    const paid = new Set<string>();
    let first = 0;
    const rooms = this.#entries.map(({ cap, baseline, card }, index) => {
      if (use[index] === 0) return Number.POSITIVE_INFINITY;
      const count = counts[index]!;
      const bytes = (count > 0 ? costs.stage(first, count) : 0) + (index === draftEntry ? this.#draftBytes(run) : 0);
      const context = paid.has(card) ? 0 : baseline;
      paid.add(card);
      first += count;
      return cap - context - bytes;
    });
    return Math.min(...rooms);
  }

  #draftBytes(run: RunShape): number {
    return this.#draftCosts ? this.#draftCosts.of(run).stage(0, this.#draftCosts.layerCount) : 0;
  }
}

/**
 * The last of 1 … `most` that has room; 0 where none does. Room falls as values grow, and nearly along
 * a line: guesses on that line find the end in a few steps where halving takes a dozen.
 *
 * @param room below 0 where there is too little
 */
function lastWithRoom(most: number, room: (value: number) => number): number {
  let lack = room(most);
  if (lack >= 0) return most;
  let spare = room(1);
  if (spare < 0) return 0;
  let [holds, fails] = [1, most];
  for (let turn = 1; fails - holds > 1; turn++) {
    // Every third guess halves, however far from a line the room falls.
    const along = turn % 3 === 0 || !Number.isFinite(lack) ? 0.5 : spare / (spare - lack);
    const guess = Math.min(Math.max(Math.floor(holds + (fails - holds) * along), holds + 1), fails - 1);
    const left = room(guess);
    if (left >= 0) [holds, spare] = [guess, left];
    else [fails, lack] = [guess, left];
  }
  return holds;
}

/** Between a number that holds (or 0) and one that does not: the last that holds before the first that does not. */
function lastTrue(holds: number, fails: number, test: (value: number) => boolean): number {
  while (fails - holds > 1) {
    const middle = Math.floor((holds + fails) / 2);
    if (test(middle)) holds = middle;
    else fails = middle;
  }
  return holds;
}
