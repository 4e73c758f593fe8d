import type { PlacementEntry } from "./placement-problem.js";

/**
 * Whether all layers find room when each entry in turn takes as many as it can hold.
 *
 * The answer is that of all placements where a run of layers takes no more than any run that contains it (StageCosts.growing): then
 * whoever takes fewer leaves the next ones a run that contains theirs, and so nobody gets further. It takes some dozens
 * of costs where a look at all placements wants those of all runs.
 *
 * @param entries each on a card of its own: of several on one card somebody may take fewer so that another one pays the baseline
 * @param cost bytes of `count` layers from `first` on
 */
export function fitsInOrder(
  entries: readonly PlacementEntry[],
  layerCount: number,
  cost: (first: number, count: number) => number,
): boolean {
  let first = 0;
  for (const { cap, baseline } of entries) {
    let [fitting, failing] = [0, layerCount - first + 1];
    while (failing - fitting > 1) {
      const count = (fitting + failing) >> 1;
      if (cost(first, count) <= cap - baseline) fitting = count;
      else failing = count;
    }
    first += fitting;
    if (first === layerCount) return true;
  }
  return false;
}
