// One sequence's pages in all cache groups of the plan.

import { type CacheGroup, PAGE_TOKENS } from "../memory/plan.js";
import type { PagePool } from "./page-pool.js";
import { PageTable } from "./page-table.js";

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

  /** A second sequence that shares the pages of positions 0 … `length − 1`, a multiple of the page size. */
  fork(length: number): SequencePages {
    return new SequencePages(this.#tables.map((table) => table.fork(length / PAGE_TOKENS)));
  }

  /** Pages held now, per group. */
  get held(): number[] {
    return this.#tables.map((table) => table.held);
  }

  /** The largest end of a step from `start` to at most `wanted` that keeps within every group's pagesPerSequence. */
  chunkEnd(start: number, wanted: number): number {
    return this.#tables.reduce((end, table) => Math.min(end, table.lastEnd(start)), wanted);
  }

  /** Whether the KV of everything that positions from `start` on can see is still here. */
  reaches(start: number): boolean {
    return this.#tables.every((table) => table.reaches(start));
  }

  /**
   * Makes room for a step over positions `start` … `end − 1`.
   *
   * @param take a free page of the pool of group `i`
   */
  prepare(start: number, end: number, take: (group: number) => number): void {
    for (const [i, table] of this.#tables.entries()) table.prepare(start, end, () => take(i));
  }

  /** Page tables of positions 0 … `end − 1`, as a batch entry carries them. */
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
