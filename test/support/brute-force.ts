// Every placement there is, one after the other, and the best by the rule as it is written
// down: slow, obvious, and sharing nothing with the planner's search.

import type { Placement } from "../../src/memory/placement.js";
import type { PlacementProblem } from "../../src/memory/placement-problem.js";

export type BruteRule = "even" | "fewest" | "fill" | "closest";

/** The best placement, or `null` where none keeps to the caps. */
export function bruteForce(problem: PlacementProblem, rule: BruteRule): Placement | null {
  let best: Placement | null = null;
  for (const placement of placements(problem))
    if (isAllowed(problem, placement, rule) && (!best || compare(problem, placement, best, rule) < 0)) best = placement;
  return best;
}

function* placements({ entries, layerCount, costs, draft }: PlacementProblem): Generator<Placement> {
  for (const counts of compositions(layerCount, entries.length)) {
    for (let draftEntry = draft > 0 ? 0 : -1; draftEntry < (draft > 0 ? entries.length : 0); draftEntry++) {
      let first = 0;
      const paid = new Set<string>();
      const use = entries.map(({ baseline, card }, index) => {
        const count = counts[index]!;
        if (count === 0 && index !== draftEntry) return 0;
        const layers = count > 0 ? costs[first * (layerCount + 1) + first + count]! : 0;
        first += count;
        const context = paid.has(card) ? 0 : baseline;
        paid.add(card);
        return context + layers + (index === draftEntry ? draft : 0);
      });
      yield { counts, use, draftEntry };
    }
  }
}

function* compositions(layers: number, devices: number): Generator<number[]> {
  if (devices === 1) {
    yield [layers];
    return;
  }
  for (let count = 0; count <= layers; count++)
    for (const rest of compositions(layers - count, devices - 1)) yield [count, ...rest];
}

function isUsed({ counts, draftEntry }: Placement, index: number): boolean {
  return counts[index]! > 0 || draftEntry === index;
}

function isAllowed({ entries }: PlacementProblem, placement: Placement, rule: BruteRule): boolean {
  const paid = new Set<string>();
  return entries.every(({ cap, baseline, card }, index) => {
    if (!isUsed(placement, index)) return true;
    if (!paid.has(card) && cap <= baseline) return false;
    paid.add(card);
    const use = placement.use[index]!;
    return Number.isFinite(use) && (rule === "closest" || use <= cap);
  });
}

function compare(problem: PlacementProblem, a: Placement, b: Placement, rule: BruteRule): number {
  if (rule === "fill") return -compareLists(a.counts, b.counts) || a.draftEntry - b.draftEntry;
  const used = (placement: Placement) => problem.entries.filter((_, index) => isUsed(placement, index)).length;
  const shares = compareDescending(shareVector(problem, a, rule), shareVector(problem, b, rule));
  const tie = compareLists(a.counts, b.counts) || a.draftEntry - b.draftEntry;
  return (rule === "fewest" && used(a) - used(b)) || shares || tie;
}

type Fraction = readonly [numerator: bigint, denominator: bigint];

function shareVector({ entries }: PlacementProblem, placement: Placement, rule: BruteRule): Fraction[] {
  const shares: Fraction[] = [];
  for (const [index, { cap }] of entries.entries()) {
    if (!isUsed(placement, index)) continue;
    const use = placement.use[index]!;
    shares.push(rule === "closest" ? [BigInt(use - cap), 1n] : [BigInt(use), BigInt(cap)]);
  }
  return shares.sort((x, y) => compareFractions(y, x));
}

function compareFractions([a, b]: Fraction, [c, d]: Fraction): number {
  const difference = a * d - c * b;
  return difference < 0n ? -1 : difference > 0n ? 1 : 0;
}

/** A vector that ends earlier is the smaller one. */
function compareDescending(a: readonly Fraction[], b: readonly Fraction[]): number {
  for (let i = 0; i < Math.min(a.length, b.length); i++) {
    const order = compareFractions(a[i]!, b[i]!);
    if (order !== 0) return order;
  }
  return a.length - b.length;
}

function compareLists(a: readonly number[], b: readonly number[]): number {
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return a[i]! - b[i]!;
  return 0;
}
