// A card that is listed more than once has one context, paid by its first used entry. Whether
// it has been paid must be remembered from the card's first entry to its last, and no longer:
// each such card gets one bit of the search state, and bits are used again.

import { UsageError } from "../errors.js";

/** State bit 0: the draft model has its place. */
export const DRAFT_PLACED = 1;

export function isDraftPlaced(key: number): boolean {
  return (key & DRAFT_PLACED) !== 0;
}

/** Cards whose entries may overlap in the list; each doubles the work. */
const MOST_OPEN_CARDS = 10;

/** What one entry does to the search state. */
export interface CardBits {
  /** Set once the entry's card is paid; 0 where no later entry shares it and none before it did. */
  readonly bit: number;
  /** Mask of the bits that still matter after this entry. */
  readonly keep: number;
}

/** @throws {UsageError} when more than ten cards are each listed again before the others end */
export function sharedCardBits(entries: readonly { readonly card: string }[]): CardBits[] {
  const last = new Map(entries.map(({ card }, index) => [card, index]));
  const open = new Map<string, number>();
  return entries.map(({ card }, index) => {
    if (!open.has(card) && last.get(card) !== index) open.set(card, freeBit(open));
    const bit = open.get(card) ?? 0;
    if (last.get(card) === index) open.delete(card);
    let keep = DRAFT_PLACED;
    for (const used of open.values()) keep |= used;
    return { bit, keep };
  });
}

function freeBit(open: ReadonlyMap<string, number>): number {
  const taken = new Set(open.values());
  for (let place = 1; place <= MOST_OPEN_CARDS; place++) if (!taken.has(1 << place)) return 1 << place;
  throw new UsageError("too many cards are listed more than once", {
    hint: `put the entries of one card beside each other, or list at most ${MOST_OPEN_CARDS} cards repeatedly`,
  });
}
