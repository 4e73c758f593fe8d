// The KV cache of a loaded model: who may use how much of it. A request reserves the most it
// can come to need before it runs, so a running sequence is never short of a page; what is
// not reserved keeps finished sequences for reuse, and they give way whenever a page is needed.

import { type CacheGroup, PAGE_TOKENS } from "../memory/plan.js";
import type { RopeSpec } from "../model/spec.js";
import { CacheTooSmallError } from "./errors.js";
import { type IdleSequence, IdleSequences, type PrefixMatch } from "./idle-sequences.js";
import { PagePool } from "./page-pool.js";
import { pagesFor, SequencePages } from "./sequence-pages.js";

/** What one running sequence has of the cache. */
export interface CacheLease {
  readonly pages: SequencePages;
  /** Leading positions whose KV is there already. */
  readonly reused: number;
  /** Reserved pages, per group. */
  readonly reserved: readonly number[];
}

export interface CacheRequest {
  readonly prompt: Int32Array;
  /** Most positions that will ever be fed. */
  readonly positions: number;
  /** Most positions whose KV may be taken from an earlier sequence; 0: none. */
  readonly reusable: number;
}

export class KvCache {
  readonly #groups: readonly CacheGroup[];
  readonly #pools: readonly PagePool[];
  readonly #reserved: number[];
  readonly #idle = new IdleSequences();
  /**
   * With dynamic RoPE the KV of a prompt longer than this depends on the prompt's length, and no
   * other can use it; a shorter prompt and what follows it up to there do not. Otherwise ∞.
   */
  readonly #fixedLength: number;

  constructor(groups: readonly CacheGroup[], rope: RopeSpec) {
    this.#groups = groups;
    this.#pools = groups.map((group) => new PagePool(group.pages));
    this.#reserved = groups.map(() => 0);
    this.#fixedLength = rope.kind === "dynamic" ? rope.originalContext : Number.POSITIVE_INFINITY;
  }

  /** Pages that nobody holds, per group; idle sequences hold theirs. */
  get freePages(): number[] {
    return this.#pools.map((pool) => pool.free);
  }

  /** Pages that running sequences have reserved, per group. */
  get reservedPages(): readonly number[] {
    return [...this.#reserved];
  }

  get idleSequences(): number {
    return this.#idle.size;
  }

  /** Longest sequence that fits when it is alone. */
  get largestSequence(): number {
    return Math.min(
      ...this.#groups.map(({ pages, pagesPerSequence }) =>
        pages >= pagesPerSequence ? Number.POSITIVE_INFINITY : pages * PAGE_TOKENS,
      ),
    );
  }

  /** @throws {CacheTooSmallError} when `positions` can never fit */
  checkFits(positions: number): void {
    for (const [i, needed] of pagesFor(this.#groups, positions).entries()) {
      const { pages } = this.#groups[i]!;
      if (needed > pages) throw new CacheTooSmallError(positions, needed, pages, PAGE_TOKENS);
    }
  }

  /** Reserves what the request can come to need, or `null` while others hold too much of it. */
  lease({ prompt, positions, reusable }: CacheRequest): CacheLease | null {
    const reserved = pagesFor(this.#groups, positions);
    if (reserved.some((pages, i) => this.#reserved[i]! + pages > this.#pools[i]!.size)) return null;
    for (const [i, pages] of reserved.entries()) this.#reserved[i]! += pages;

    const { pages, reused } = this.#takePrefix(prompt, reusable);
    return { pages, reused, reserved };
  }

  /** Makes room for a step of a leased sequence; idle sequences give way. */
  prepare(lease: CacheLease, start: number, end: number): void {
    lease.pages.prepare(start, end, (group) => {
      const pool = this.#pools[group]!;
      while (pool.free === 0 && this.#idle.evict());
      return pool.take();
    });
  }

  /** Ends a lease; the pages are free. */
  release(lease: CacheLease): void {
    this.#unreserve(lease);
    lease.pages.release();
  }

  /**
   * Ends a lease, and keeps the KV for a later request that begins alike.
   *
   * @param ids those whose KV is complete, from position 0
   * @param promptLength so many of them were prefilled as one prompt
   */
  retire(lease: CacheLease, ids: Int32Array, promptLength: number): void {
    if (ids.length === 0 || promptLength > this.#fixedLength) {
      this.release(lease);
      return;
    }
    this.#unreserve(lease);
    lease.pages.truncate(ids.length);
    this.#idle.add({ ids: ids.slice(), pages: lease.pages });
  }

  /** Forgets all idle sequences. */
  clear(): void {
    while (this.#idle.evict());
  }

  #unreserve({ reserved }: CacheLease): void {
    for (const [i, pages] of reserved.entries()) this.#reserved[i]! -= pages;
  }

  /**
   * Begins with what an idle sequence has of the prompt. Taking its pages over cuts it short, so
   * two chats that share only the template's first words, or a long system prompt, leave each
   * other alone while there is room for both: then whole pages are shared instead.
   */
  #takePrefix(prompt: Int32Array, reusable: number): { pages: SequencePages; reused: number } {
    const match = prompt.length <= this.#fixedLength ? this.#idle.longestMatch(prompt, reusable) : null;
    if (!match) return { pages: SequencePages.empty(this.#groups, this.#pools), reused: 0 };
    const { idle, length } = match;
    if (isRelated(match, prompt.length) || !this.#hasRoomBeside(idle)) {
      this.#idle.remove(idle);
      idle.pages.truncate(length);
      return { pages: idle.pages, reused: length };
    }
    const whole = length - (length % PAGE_TOKENS);
    if (idle.pages.reaches(whole)) return { pages: idle.pages.fork(whole), reused: whole };
    return { pages: SequencePages.empty(this.#groups, this.#pools), reused: 0 };
  }

  /** Whether all that running sequences have reserved leaves this idle one its pages. */
  #hasRoomBeside(idle: IdleSequence): boolean {
    const held = idle.pages.held;
    return this.#pools.every((pool, i) => this.#reserved[i]! + held[i]! <= pool.size);
  }
}

/** Sharing at least half of one of them: the same chat, or the same prompt again. */
function isRelated({ idle, length }: PrefixMatch, promptLength: number): boolean {
  return 2 * length >= promptLength || 2 * length >= idle.ids.length;
}
