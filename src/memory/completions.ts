// From any state of the placement's search, how well it can still end: computed backwards, in
// plain numbers. It answers whether anything fits at all (asked dozens of times per plan),
// and tells place() which beginnings cannot become the best, nearly all of them.

import type { PlacementProblem, PlacementRule } from "./placement-problem.js";
import { type CardBits, DRAFT_PLACED, isDraftPlaced, sharedCardBits } from "./shared-cards.js";

/** Per number of layers already placed. */
interface Ends {
  /** Smallest possible largest share among the entries still to come; Infinity where there is no way, −Infinity where nothing is left to place. */
  readonly worst: Float64Array;
  /** Entries still to be used on the way to it. */
  readonly used: Int32Array;
}

/** Use/cap of an entry, or by how many bytes it exceeds its cap. */
export function shareValue(use: number, cap: number, rule: PlacementRule): number {
  return rule === "closest" ? use - cap : use / cap;
}

/** The ends of one placement problem under one rule. */
export class Completions {
  readonly bits: readonly CardBits[];
  readonly #problem: PlacementProblem;
  readonly #rule: PlacementRule;
  /** Per entry (and one past the last), per search state before it. */
  readonly #ends: readonly ReadonlyMap<number, Ends>[];

  constructor(problem: PlacementProblem, rule: PlacementRule) {
    this.#problem = problem;
    this.#rule = rule;
    this.bits = sharedCardBits(problem.entries);
    const states = this.#states();
    let after = new Map<number, Ends>();
    for (const key of states.at(-1)!) after.set(key, this.#goal(key));
    const ends = [after];
    for (let index = problem.entries.length - 1; index >= 0; index--) {
      const before = new Map<number, Ends>();
      for (const key of states[index]!) before.set(key, this.#endsBefore(index, key, after));
      ends.unshift(before);
      after = before;
    }
    this.#ends = ends;
  }

  /** Whether any placement keeps to the caps. */
  get possible(): boolean {
    return this.worstAfter(0, 0, 0) < Number.POSITIVE_INFINITY;
  }

  /** Smallest largest share among entries `index` and later. */
  worstAfter(index: number, key: number, layers: number): number {
    return this.#ends[index]!.get(key)!.worst[layers]!;
  }

  usedAfter(index: number, key: number, layers: number): number {
    return this.#ends[index]!.get(key)!.used[layers]!;
  }

  /** Search states that may stand before each entry, and after the last. */
  #states(): Set<number>[] {
    const states = [new Set([0])];
    for (const { bit, keep } of this.bits) {
      const next = new Set<number>();
      for (const key of states.at(-1)!) {
        next.add(key & keep);
        next.add((key | bit) & keep);
        if (this.#problem.draft > 0) next.add((key | bit | DRAFT_PLACED) & keep);
      }
      states.push(next);
    }
    return states;
  }

  #goal(key: number): Ends {
    const ends = this.#nowhere();
    const { layerCount, draft } = this.#problem;
    if (isDraftPlaced(key) === draft > 0) ends.worst[layerCount] = Number.NEGATIVE_INFINITY;
    return ends;
  }

  #nowhere(): Ends {
    const width = this.#problem.layerCount + 1;
    return { worst: new Float64Array(width).fill(Number.POSITIVE_INFINITY), used: new Int32Array(width) };
  }

  #endsBefore(index: number, key: number, after: ReadonlyMap<number, Ends>): Ends {
    const { entries, draft } = this.#problem;
    const { cap, baseline, most } = entries[index]!;
    const { bit, keep } = this.bits[index]!;
    const skipped = after.get(key & keep)!;
    const ends: Ends = { worst: skipped.worst.slice(), used: skipped.used.slice() };
    const paid = (key & bit) !== 0;
    if (!paid && cap <= baseline) return ends;
    const limit = this.#rule === "closest" ? (most ?? Number.MAX_VALUE) : cap;
    const context = paid ? 0 : baseline;
    const next = (key | bit) & keep;
    this.#use(ends, after.get(next)!, cap, limit, context, false);
    if (draft > 0 && !isDraftPlaced(key)) this.#use(ends, after.get(next | DRAFT_PLACED)!, cap, limit, context + draft, true);
    return ends;
  }

  /** Improves `ends` by giving this entry layers (or, with the draft model, none) on top of `fixed` bytes. */
  #use(ends: Ends, after: Ends, cap: number, limit: number, fixed: number, orNone: boolean): void {
    const { costs, layerCount } = this.#problem;
    const fewest = this.#rule === "fewest";
    const overshoot = this.#rule === "closest";
    const width = layerCount + 1;
    for (let first = 0; first < width; first++) {
      let worst = ends.worst[first]!;
      let used = ends.used[first]!;
      for (let end = orNone ? first : first + 1; end < width; end++) {
        const rest = after.worst[end]!;
        if (rest === Number.POSITIVE_INFINITY) continue;
        const use = fixed + (end > first ? costs[first * width + end]! : 0);
        if (use > limit) continue;
        const share = overshoot ? use - cap : use / cap;
        const value = Math.max(share, rest);
        const count = after.used[end]! + 1;
        if (fewest && worst !== Number.POSITIVE_INFINITY && count !== used ? count < used : value < worst) {
          worst = value;
          used = count;
        }
      }
      ends.worst[first] = worst;
      ends.used[first] = used;
    }
  }
}
