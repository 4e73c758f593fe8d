// One sequence's pages in one cache group: logical page i holds positions 256·i … 256·i + 255.
// In a group with a sliding window, pages that no later query can see are given back, and
// their places say −1.

import { type CacheGroup, PAGE_TOKENS } from "../memory/plan.js";
import type { PageId, PagePool } from "./page-pool.js";

/** The entry of a page that the window has left behind. */
export const DROPPED = -1;

export class PageTable {
  readonly #group: CacheGroup;
  readonly #pool: PagePool;
  #pages = new Int32Array(4);
  /** Logical pages from #first to #end − 1 are held, those before #first dropped. */
  #first = 0;
  #end = 0;

  constructor(group: CacheGroup, pool: PagePool) {
    this.#group = group;
    this.#pool = pool;
  }

  /** Pages held now. */
  get held(): number {
    return this.#end - this.#first;
  }

  /**
   * Where a step that begins at `start` must end at the latest, so that the sequence never
   * holds more than its group's pagesPerSequence. Always beyond `start`: the plan gives a
   * sequence at least its window and one page.
   */
  lastEnd(start: number): number {
    return (this.#firstSeenFrom(start) + this.#group.pagesPerSequence) * PAGE_TOKENS;
  }

  /** Whether every page that a step beginning at `start` reads is still here. */
  reaches(start: number): boolean {
    return start <= this.#end * PAGE_TOKENS && this.#first <= this.#firstSeenFrom(start);
  }

  /**
   * Makes room for positions `start` … `end − 1`: drops what they cannot see, then takes pages.
   *
   * @param take a free page of this group's pool
   */
  prepare(start: number, end: number, take: () => PageId): void {
    const firstSeen = this.#firstSeenFrom(start);
    for (; this.#first < Math.min(firstSeen, this.#end); this.#first++) {
      this.#pool.release(this.#pages[this.#first]!);
      this.#pages[this.#first] = DROPPED;
    }
    const needed = Math.ceil(end / PAGE_TOKENS);
    if (needed > this.#pages.length) {
      const grown = new Int32Array(Math.max(needed, 2 * this.#pages.length));
      grown.set(this.#pages);
      this.#pages = grown;
    }
    for (; this.#end < needed; this.#end++) this.#pages[this.#end] = take();
  }

  /** Physical pages of positions 0 … `end − 1`, for the backend: valid until the next change. */
  view(end: number): Int32Array {
    return this.#pages.subarray(0, Math.ceil(end / PAGE_TOKENS));
  }

  /** Gives back the pages that hold nothing of positions 0 … `length − 1`. */
  truncate(length: number): void {
    const needed = Math.ceil(length / PAGE_TOKENS);
    while (this.#end > Math.max(needed, this.#first)) this.#pool.release(this.#pages[--this.#end]!);
  }

  /** A second table that shares the first `pages` logical pages; whoever holds it must not write into them. */
  fork(pages: number): PageTable {
    const fork = new PageTable(this.#group, this.#pool);
    fork.#pages = this.#pages.slice();
    fork.#first = Math.min(this.#first, pages);
    fork.#end = pages;
    for (let i = fork.#first; i < fork.#end; i++) this.#pool.share(fork.#pages[i]!);
    return fork;
  }

  /** Gives everything back. */
  release(): void {
    while (this.#end > this.#first) this.#pool.release(this.#pages[--this.#end]!);
    this.#first = 0;
    this.#end = 0;
  }

  /** The lowest logical page that a query at `position` or later can see. */
  #firstSeenFrom(position: number): number {
    const { window } = this.#group;
    return window === null ? 0 : Math.floor(Math.max(0, position - window + 1) / PAGE_TOKENS);
  }
}
