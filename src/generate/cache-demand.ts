// How many pages a job of one or more sequences can come to hold.

import { type CacheGroup, PAGE_TOKENS } from "../memory/plan.js";
import { pagesFor } from "./sequence-pages.js";

/** What a job can come to need, at most. */
export interface CacheDemand {
  /** Sequences at once. */
  readonly width: number;
  /** Positions of each. */
  readonly positions: number;
  /** So many leading positions they have in common: their pages count once. */
  readonly shared: number;
  /** They differ in the last so many positions at most; default: in all that they do not share. */
  readonly apart?: number;
}

/** Most pages that a job holds at once, per group. */
export function pagesOf(groups: readonly CacheGroup[], { width, positions, shared, apart }: CacheDemand): number[] {
  return pagesFor(groups, positions).map((pages, g) => {
    const common = Math.min(pages, commonPages(groups[g]!, shared));
    return pages + (width - 1) * Math.min(pages - common, ownPages(apart));
  });
}

/** Most positions of each sequence of a job that has the cache for itself. */
export function largestOf(groups: readonly CacheGroup[], { width, shared, apart }: Omit<CacheDemand, "positions">): number {
  const most = groups.map((group) => {
    const { pages, pagesPerSequence } = group;
    const common = commonPages(group, shared);
    const own = Math.min(pages, ownPages(apart));
    const fitting = Math.max(pages - (width - 1) * own, common + Math.floor((pages - common) / width));
    return fitting >= pagesPerSequence ? Number.POSITIVE_INFINITY : fitting * PAGE_TOKENS;
  });
  return Math.min(...most);
}

/** Pages that sequences with so many positions in common hold once. */
function commonPages({ window }: CacheGroup, shared: number): number {
  return window === null ? Math.floor(shared / PAGE_TOKENS) : 0;
}

/** Pages in which a sequence can differ from another of its job: `apart` positions may begin in the middle of one. */
function ownPages(apart: number | undefined): number {
  return apart === undefined ? Number.POSITIVE_INFINITY : Math.ceil(apart / PAGE_TOKENS) + 1;
}
