// Which device holds which layers: the exact optimum, not a heuristic. Layers stay in order and
// contiguous, devices are taken in list order, any of them may stay empty, the head goes with
// the last layer, a draft model goes whole to one device.
//
// Dynamic programming over (devices looked at, layers placed, who pays which context): for
// each such state only the best placement is kept. That is exact because every order used
// here survives adding the same element to both sides: if one descending vector is smaller
// than another, it still is after the same share has been sorted into both.

import { compareShares, type Share, shareOf } from "./share.js";
import { type CardBits, DRAFT_PLACED, isDraftPlaced, sharedCardBits } from "./shared-cards.js";
import type { CostTable } from "./stage-costs.js";

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
  const { entries, layerCount, draft } = problem;
  const better = ORDER[rule];
  const bits = sharedCardBits(entries);
  let states = new Map<number, (Node | undefined)[]>([[0, [ROOT]]]);
  for (const [index, entry] of entries.entries()) {
    const next = new Map<number, (Node | undefined)[]>();
    const offer = (key: number, layers: number, node: Node) => {
      let row = next.get(key);
      if (!row) {
        row = new Array(layerCount + 1);
        next.set(key, row);
      }
      const incumbent = row[layers];
      if (!incumbent || better(node, incumbent) < 0) row[layers] = node;
    };
    for (const [key, row] of states) {
      for (let first = 0; first <= layerCount; first++) {
        const node = row[first];
        if (node)
          extend(problem, rule, { index, entry, bits: bits[index]! }, key, first, node, offer, (k, j) => next.get(k)?.[j]);
      }
    }
    states = next;
  }
  let best: Node | undefined;
  for (const [key, row] of states) {
    const node = row[layerCount];
    if (node && isDraftPlaced(key) === draft > 0 && (!best || better(node, best) < 0)) best = node;
  }
  return best ? unwind(best) : null;
}

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
  readonly index: number;
  readonly entry: PlacementEntry;
  readonly bits: CardBits;
}

/** Every way to use one entry after `node`, which has placed `first` layers. */
function extend(
  problem: PlacementProblem,
  rule: PlacementRule,
  { entry, bits }: Step,
  key: number,
  first: number,
  node: Node,
  offer: (key: number, layers: number, node: Node) => void,
  incumbentAt: (key: number, layers: number) => Node | undefined,
): void {
  const { layerCount, costs, draft } = problem;
  const paid = (key & bits.bit) !== 0;
  offer(key & bits.keep, first, { ...node, parent: node, count: 0, use: 0, draftHere: false });
  if (!paid && entry.cap <= entry.baseline) return;
  const context = paid ? 0 : entry.baseline;
  const usedKey = (key | bits.bit) & bits.keep;
  const most = rule === "closest" ? (entry.most ?? Number.MAX_VALUE) : entry.cap;
  const row = first * (layerCount + 1);
  for (let withDraft = 0; withDraft <= (draft > 0 && !isDraftPlaced(key) ? 1 : 0); withDraft++) {
    const nextKey = withDraft ? usedKey | DRAFT_PLACED : usedKey;
    const fixed = context + (withDraft ? draft : 0);
    for (let end = withDraft ? first : first + 1; end <= layerCount; end++) {
      const use = fixed + (end > first ? costs[row + end]! : 0);
      if (use > most) continue;
      const share = shareOf(use, entry.cap, rule === "closest");
      if (hopeless(rule, node, share, incumbentAt(nextKey, end))) continue;
      const shares = rule === "fill" ? [] : withShare(node.shares, share);
      offer(nextKey, end, { parent: node, count: end - first, use, draftHere: withDraft === 1, used: node.used + 1, shares });
    }
  }
}

/** True where the largest share alone already loses against what is there: most candidates end here. */
function hopeless(rule: PlacementRule, node: Node, share: Share, incumbent: Node | undefined): boolean {
  if (!incumbent || rule === "fill") return false;
  if (rule === "fewest" && node.used + 1 !== incumbent.used) return node.used + 1 > incumbent.used;
  const worst = incumbent.shares[0];
  return (
    worst !== undefined &&
    (compareShares(share, worst) > 0 || (node.shares.length > 0 && compareShares(node.shares[0]!, worst) > 0))
  );
}

const ORDER: Record<PlacementRule, (a: Node, b: Node) => number> = {
  even: (a, b) => compareVectors(a.shares, b.shares) || compareCounts(a, b),
  fewest: (a, b) => a.used - b.used || compareVectors(a.shares, b.shares) || compareCounts(a, b),
  fill: (a, b) => compareCounts(b, a) || compareDrafts(a, b),
  closest: (a, b) => compareVectors(a.shares, b.shares) || compareCounts(a, b),
};

/** Descending vectors, largest element first; a missing element is below every other. */
function compareVectors(a: readonly Share[], b: readonly Share[]): number {
  const common = Math.min(a.length, b.length);
  for (let i = 0; i < common; i++) {
    const order = compareShares(a[i]!, b[i]!);
    if (order !== 0) return order;
  }
  return a.length - b.length;
}

/** Layer counts in list order; where they are the same, the earlier draft model. Both chains are equally long. */
function compareCounts(a: Node, b: Node): number {
  if (a === b || a.parent === null || b.parent === null) return 0;
  return compareCounts(a.parent, b.parent) || a.count - b.count || 0;
}

function compareDrafts(a: Node, b: Node): number {
  if (a === b || a.parent === null || b.parent === null) return 0;
  return compareDrafts(a.parent, b.parent) || Number(b.draftHere) - Number(a.draftHere);
}

function withShare(shares: readonly Share[], share: Share): Share[] {
  const sorted = shares.slice();
  let at = sorted.length;
  while (at > 0 && compareShares(sorted[at - 1]!, share) < 0) at--;
  sorted.splice(at, 0, share);
  return sorted;
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
