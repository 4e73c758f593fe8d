// Which device holds which layers: the exact optimum, not a heuristic. Layers stay in order and
// contiguous, devices are taken in list order, any of them may stay empty, the head goes with
// the last layer, a draft model goes whole to one device.
//
// Dynamic programming over (devices looked at, layers placed, who pays which context): for
// each such state only the best placement is kept. That is exact because every order used
// here survives adding the same element to both sides: if one descending vector is smaller
// than another, it still is after the same share has been sorted into both.

import { Completions, shareValue } from "./completions.js";
import type { PlacementProblem, PlacementRule } from "./placement-problem.js";
import { compareOvershoots, compareRatios, compareVectors, insertShare, type Share } from "./share.js";
import { DRAFT_PLACED, isDraftPlaced } from "./shared-cards.js";

export interface Placement {
  /** Layers on each entry. */
  readonly counts: readonly number[];
  /** Bytes taken on each entry, the baseline included; 0 where nothing lies. */
  readonly use: readonly number[];
  /** Entry that holds the draft model, or −1. */
  readonly draftEntry: number;
}

/**
 * The best placement by a rule, or `null` where none keeps to the caps (with `closest`: where
 * no entry may be used at all). An entry whose cap does not exceed its baseline is only used
 * where an earlier entry has already paid for its card.
 */
export function place(problem: PlacementProblem, rule: PlacementRule): Placement | null {
  const completions = new Completions(problem, rule);
  if (!completions.possible) return null;
  const better = ORDER[rule];
  let states: States = new Map([[0, [ROOT]]]);
  for (const index of problem.entries.keys()) {
    const next: States = new Map();
    const offer = (key: number, layers: number, node: Node) => {
      const row = next.get(key) ?? [];
      next.set(key, row);
      const incumbent = row[layers];
      if (!incumbent || better(node, incumbent) < 0) row[layers] = node;
    };
    const step: Step = { problem, rule, completions, index, offer };
    for (const [key, row] of states) for (const [layers, node] of row.entries()) if (node) extend(step, key, layers, node);
    states = next;
  }
  const ends = [...states.values()].flatMap((row) => row[problem.layerCount] ?? []);
  return unwind(ends.reduce((best, node) => (better(node, best) < 0 ? node : best)));
}

/** By search state (see shared-cards.ts) and number of layers placed. */
type States = Map<number, (Node | undefined)[]>;

/** A placement of the first entries, as a chain back to the empty one. */
interface Node {
  readonly parent: Node | null;
  readonly count: number;
  readonly use: number;
  readonly draftHere: boolean;
  /** Entries in use. */
  readonly used: number;
  /** Shares of the entries in use, largest first. */
  readonly shares: readonly Share[];
}

const ROOT: Node = { parent: null, count: 0, use: 0, draftHere: false, used: 0, shares: [] };

interface Step {
  readonly problem: PlacementProblem;
  readonly rule: PlacementRule;
  readonly completions: Completions;
  /** Of the entry. */
  readonly index: number;
  readonly offer: (key: number, layers: number, node: Node) => void;
}

/** Every way to use one entry after `node`, which has placed `first` layers, that can still become the best. */
function extend(step: Step, key: number, first: number, node: Node): void {
  const { problem, rule, completions, index, offer } = step;
  const { layerCount, costs, draft } = problem;
  const entry = problem.entries[index]!;
  const { bit, keep } = completions.bits[index]!;
  const soFar = node.shares[0]?.value ?? Number.NEGATIVE_INFINITY;
  if (isPromising(step, key & keep, first, node.used, soFar))
    offer(key & keep, first, { ...node, parent: node, count: 0, use: 0, draftHere: false });
  const paid = (key & bit) !== 0;
  if (!paid && entry.cap <= entry.baseline) return;
  const most = rule === "closest" ? (entry.most ?? Number.MAX_VALUE) : entry.cap;
  for (const draftHere of draft > 0 && !isDraftPlaced(key) ? [false, true] : [false]) {
    const next = ((key | bit) & keep) | (draftHere ? DRAFT_PLACED : 0);
    const fixed = (paid ? 0 : entry.baseline) + (draftHere ? draft : 0);
    for (let end = draftHere ? first : first + 1; end <= layerCount; end++) {
      const use = fixed + (end > first ? costs[first * (layerCount + 1) + end]! : 0);
      if (use > most || !isPromising(step, next, end, node.used + 1, Math.max(soFar, shareValue(use, entry.cap, rule)))) continue;
      const shares = withShare(node.shares, { use, cap: entry.cap, value: shareValue(use, entry.cap, rule) }, rule);
      offer(next, end, { parent: node, count: end - first, use, draftHere, used: node.used + 1, shares });
    }
  }
}

/** Values of shares are rounded; what is this little above the best may still equal it. */
const ROUNDING = 1e-9;

/** False where even the best end leaves this beginning behind the best placement. */
function isPromising({ rule, completions, index }: Step, key: number, layers: number, used: number, worst: number): boolean {
  const rest = completions.worstAfter(index + 1, key, layers);
  if (rest === Number.POSITIVE_INFINITY) return false;
  if (rule === "fill") return true;
  if (rule === "fewest" && used + completions.usedAfter(index + 1, key, layers) > completions.usedAfter(0, 0, 0)) return false;
  const best = completions.worstAfter(0, 0, 0);
  return Math.max(worst, rest) <= best + Math.abs(best) * ROUNDING;
}

const ORDER: Record<PlacementRule, (a: Node, b: Node) => number> = {
  even: (a, b) => compareVectors(a.shares, b.shares, compareRatios) || compareCounts(a, b) || compareDrafts(a, b),
  fewest: (a, b) => a.used - b.used || ORDER.even(a, b),
  fill: (a, b) => compareCounts(b, a) || compareDrafts(a, b),
  closest: (a, b) => compareVectors(a.shares, b.shares, compareOvershoots) || compareCounts(a, b) || compareDrafts(a, b),
};

/** Layer counts in list order. Both chains are equally long. */
function compareCounts(a: Node, b: Node): number {
  if (a === b || a.parent === null || b.parent === null) return 0;
  return compareCounts(a.parent, b.parent) || a.count - b.count;
}

/** The earlier place of the draft model. */
function compareDrafts(a: Node, b: Node): number {
  if (a === b || a.parent === null || b.parent === null) return 0;
  return compareDrafts(a.parent, b.parent) || Number(b.draftHere) - Number(a.draftHere);
}

/** The shares with one more; `fill` does not look at them. */
function withShare(shares: readonly Share[], share: Share, rule: PlacementRule): readonly Share[] {
  if (rule === "fill") return shares;
  return insertShare(shares, share, rule === "closest" ? compareOvershoots : compareRatios);
}

function unwind(best: Node): Placement {
  const chain: Node[] = [];
  for (let node = best; node.parent; node = node.parent) chain.unshift(node);
  return {
    counts: chain.map((node) => node.count),
    use: chain.map((node) => node.use),
    draftEntry: chain.findIndex((node) => node.draftHere),
  };
}
