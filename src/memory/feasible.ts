// Whether any placement keeps to the caps: the question behind every "largest context", asked
// dozens of times per plan, so it looks for one placement and not for the best.

import type { PlacementProblem } from "./placement.js";
import { DRAFT_PLACED, isDraftPlaced, sharedCardBits } from "./shared-cards.js";

/** True where place() would find a placement under any rule but `closest`. */
export function isFeasible({ entries, layerCount, costs, draft }: PlacementProblem): boolean {
  const bits = sharedCardBits(entries);
  const width = layerCount + 1;
  // per search state: which numbers of layers the entries so far can hold
  let states = new Map<number, Uint8Array>([[0, Uint8Array.of(1, ...new Uint8Array(layerCount))]]);
  const goal = draft > 0 ? DRAFT_PLACED : 0;
  for (const [index, { cap, baseline }] of entries.entries()) {
    const { bit, keep } = bits[index]!;
    const next = new Map<number, Uint8Array>();
    const rowOf = (key: number): Uint8Array => {
      let row = next.get(key);
      if (!row) {
        row = new Uint8Array(width);
        next.set(key, row);
      }
      return row;
    };
    for (const [key, row] of states) {
      const skipped = rowOf(key & keep);
      for (let layers = 0; layers < width; layers++) if (row[layers]) skipped[layers] = 1;
      const paid = (key & bit) !== 0;
      if (!paid && cap <= baseline) continue;
      const room = cap - (paid ? 0 : baseline);
      const used = (key | bit) & keep;
      spread(row, rowOf(used), costs, room, width, false);
      if (draft > 0 && !isDraftPlaced(key) && draft <= room)
        spread(row, rowOf(used | DRAFT_PLACED), costs, room - draft, width, true);
    }
    states = next;
    for (const [key, row] of states) if ((key & DRAFT_PLACED) === goal && row[layerCount]) return true;
  }
  return false;
}

/** Marks in `into` every number of layers reached from `row` by giving one entry layers that fit into `room`. */
function spread(row: Uint8Array, into: Uint8Array, costs: Float64Array, room: number, width: number, orNone: boolean): void {
  for (let first = 0; first < width; first++) {
    if (!row[first]) continue;
    if (orNone) into[first] = 1;
    const costsFrom = first * width;
    for (let end = first + 1; end < width; end++) if (costs[costsFrom + end]! <= room) into[end] = 1;
  }
}
