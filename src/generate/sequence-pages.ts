// One sequence's pages in all cache groups of the plan.

import type { PageCopy } from "../backend/backend.js";
import { type CacheGroup, PAGE_TOKENS } from "../memory/plan.js";
import type { PageId, PagePool } from "./page-pool.js";
import { DROPPED, PageTable } from "./page-table.js";

/** Most pages that a sequence of `positions` tokens holds at once, per group. */
export function pagesFor(groups: readonly CacheGroup[], positions: number): number[] {
  return groups.map(({ pagesPerSequence }) => Math.min(pagesPerSequence, Math.ceil(positions / PAGE_TOKENS)));
}

export class SequencePages {
  readonly #tables: readonly PageTable[];

  private constructor(tables: readonly PageTable[]) {
    this.#tables = tables;
  }

  /** A sequence without pages. */
  static empty(groups: readonly CacheGroup[], pools: readonly PagePool[]): SequencePages {
    return new SequencePages(groups.map((group, i) => new PageTable(group, pools[i]!)));
  }

  /** A second sequence that shares all pages. */
  fork(): SequencePages {
    return new SequencePages(this.#tables.map((table) => table.fork()));
  }

  /** Pages held now, per group. */
  get held(): number[] {
    return this.#tables.map((table) => table.held);
  }

  /** Physical pages of logical page `index`, per group; {@link DROPPED} where the window has left it. */
  pageOf(index: number): PageId[] {
    return this.#tables.map((table) => table.page(index));
  }

  /** The largest end of a step from `start` to at most `wanted` that keeps within every group's pagesPerSequence. */
  chunkEnd(start: number, wanted: number): number {
    return this.#tables.reduce((end, table) => Math.min(end, table.lastEnd(start)), wanted);
  }

  /** Whether the KV of everything that positions from `start` on can see is still here. */
  reaches(start: number): boolean {
    return this.#tables.every((table) => table.reaches(start));
  }

  /** Gives back what no position from `start` on can see. */
  dropUnseen(start: number): void {
    for (const table of this.#tables) table.dropUnseen(start);
  }

  /** Pages that a step over positions `start` … `end − 1` takes, per group. */
  needed(start: number, end: number): number[] {
    return this.#tables.map((table) => table.needed(start, end));
  }

  /** The page of each group that holds `start` and that others hold, too; `null` where there is none. */
  sharedPages(start: number): (PageId | null)[] {
    return this.#tables.map((table) => table.sharedPage(start));
  }

  /**
   * Makes room for a step over positions `start` … `end − 1`; the pools must have what is {@link needed}.
   *
   * @returns what has to be copied before the step
   */
  prepare(start: number, end: number): PageCopy[] {
    const copies: PageCopy[] = [];
    for (const [group, table] of this.#tables.entries())
      table.prepare(start, end, (from, to) => copies.push({ group, from, to }));
    return copies;
  }

  /** Pages of position `end` that are not held yet and may be, per group. */
  neededNext(end: number): number[] {
    return this.#tables.map((table) => (table.lacksNext(end) ? 1 : 0));
  }

  /** Takes the pages that are {@link neededNext}; the pools must have them. */
  prepareNext(end: number): void {
    for (const table of this.#tables) if (table.lacksNext(end)) table.takeNext();
  }

  /** Goes on with the pages of a logical page that others hold, per group. */
  attach(pages: readonly PageId[]): void {
    for (const [group, table] of this.#tables.entries()) table.attach(pages[group] ?? DROPPED);
  }

  /** Page tables of positions 0 … `end − 1`, and of `end` where it is prepared, as a batch entry carries them. */
  views(end: number): Int32Array[] {
    return this.#tables.map((table) => table.view(end));
  }

  truncate(length: number): void {
    for (const table of this.#tables) table.truncate(length);
  }

  release(): void {
    for (const table of this.#tables) table.release();
  }
}
