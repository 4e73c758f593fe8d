// One sequence's pages in one cache group: logical page i holds positions 256·i … 256·i + 255.
// In a group with a sliding window, pages that no later query can see are given back, and
// their places say −1. Pages may be shared with other tables; before a shared one is written
// into, the table takes a page of its own in its place.

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

  /** The physical page of a logical one, {@link DROPPED} where none is held. */
  page(logical: number): PageId {
    return logical >= this.#first && logical < this.#end ? this.#pages[logical]! : DROPPED;
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

  /** Gives back what no position from `start` on can see. */
  dropUnseen(start: number): void {
    const firstSeen = this.#firstSeenFrom(start);
    for (; this.#first < Math.min(firstSeen, this.#end); this.#first++) {
      this.#pool.release(this.#pages[this.#first]!);
      this.#pages[this.#first] = DROPPED;
    }
  }

  /** The page that holds `start` and others hold, too: it must not be written into. `null`: there is none. */
  sharedPage(start: number): PageId | null {
    const page = this.page(Math.floor(start / PAGE_TOKENS));
    return page !== DROPPED && this.#pool.isShared(page) ? page : null;
  }

  /** Pages that a step over `start` … `end − 1` takes. */
  needed(start: number, end: number): number {
    return Math.max(0, Math.ceil(end / PAGE_TOKENS) - this.#end) + (this.sharedPage(start) === null ? 0 : 1);
  }

  /**
   * Takes the pages for positions `start` … `end − 1`: there must be {@link needed} free ones.
   *
   * @param copy called where what lies before `start` in a shared page has to be copied
   */
  prepare(start: number, end: number, copy: (from: PageId, to: PageId) => void): void {
    const shared = this.sharedPage(start);
    if (shared !== null) {
      const own = this.#pool.take();
      if (start % PAGE_TOKENS > 0) copy(shared, own);
      this.#pool.release(shared);
      this.#pages[Math.floor(start / PAGE_TOKENS)] = own;
    }
    for (const needed = Math.ceil(end / PAGE_TOKENS); this.#end < needed; ) this.#push(this.#pool.take());
  }

  /** Goes on with a page that another holds: this table is one more holder. `DROPPED` where the window has left it. */
  attach(page: PageId): void {
    if (page === DROPPED) {
      this.#grow();
      this.#pages[this.#end++] = DROPPED;
      this.#first = this.#end;
      return;
    }
    this.#pool.share(page);
    this.#push(page);
  }

  /** Whether position `end` lies in a page that is not held yet, and the sequence may hold one more. */
  lacksNext(end: number): boolean {
    return Math.ceil((end + 1) / PAGE_TOKENS) === this.#end + 1 && this.held < this.#group.pagesPerSequence;
  }

  /** Takes the page that it {@link lacksNext}: there must be a free one. */
  takeNext(): void {
    this.#push(this.#pool.take());
  }

  /** Physical pages of positions 0 … `end`, without the last where that is not held, for the backend: valid until the next change. */
  view(end: number): Int32Array {
    const pages = Math.ceil(end / PAGE_TOKENS);
    return this.#pages.subarray(0, Math.max(pages, Math.min(this.#end, Math.ceil((end + 1) / PAGE_TOKENS))));
  }

  /** Gives back the pages that hold nothing of positions 0 … `length − 1`. */
  truncate(length: number): void {
    const needed = Math.ceil(length / PAGE_TOKENS);
    while (this.#end > Math.max(needed, this.#first)) this.#pool.release(this.#pages[--this.#end]!);
  }

  /** A second table that shares all pages. */
  fork(): PageTable {
    const fork = new PageTable(this.#group, this.#pool);
    fork.#pages = this.#pages.slice();
    fork.#first = this.#first;
    fork.#end = this.#end;
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

  #push(page: PageId): void {
    this.#grow();
    this.#pages[this.#end++] = page;
  }

  #grow(): void {
    if (this.#end < this.#pages.length) return;
    const grown = new Int32Array(2 * this.#pages.length);
    grown.set(this.#pages);
    this.#pages = grown;
  }
}
