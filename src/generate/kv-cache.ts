// The KV cache of a loaded model: who holds which of its pages. Running strands hold theirs; the
// index keeps those of earlier ones, and of running ones as far as they are complete, for
// requests that begin alike, and gives way whenever a page is needed. Besides, requests can
// reserve the most that they can come to need: as long as all running ones have, none of them
// is ever short of a page.

import type { PageCopy } from "../backend/backend.js";
import { type CacheGroup, PAGE_TOKENS } from "../memory/plan.js";
import type { RopeSpec } from "../model/spec.js";
import { type CacheDemand, largestOf, pagesOf } from "./cache-demand.js";
import type { CacheHold, CacheRequest } from "./cache-hold.js";
import { CacheTooSmallError } from "./errors.js";
import { PageIndex, type PrefixMatch } from "./page-index.js";
import { PagePool } from "./page-pool.js";
import { pagesFor, SequencePages } from "./sequence-pages.js";

/** A page is copied for a new sequence where so many ids of it are the sequence's, not for less. */
export const LEAST_COPIED = 8;

export class KvCache {
  readonly #groups: readonly CacheGroup[];
  readonly #pools: readonly PagePool[];
  readonly #reserved: number[];
  readonly #index: PageIndex;
  /**
   * With dynamic RoPE the KV of a prompt longer than this depends on the prompt's length, and no
   * other can use it; a shorter prompt and what follows it up to there do not. Otherwise ∞.
   */
  readonly fixedLength: number;

  constructor(groups: readonly CacheGroup[], rope: RopeSpec) {
    this.#groups = groups;
    this.#pools = groups.map((group) => new PagePool(group.pages));
    this.#reserved = groups.map(() => 0);
    this.#index = new PageIndex(groups, this.#pools);
    this.fixedLength = rope.kind === "dynamic" ? rope.originalContext : Number.POSITIVE_INFINITY;
  }

  /** Pages that nobody holds, per group. */
  get freePages(): number[] {
    return this.#pools.map((pool) => pool.free);
  }

  /** Pages that are kept for reuse only, per group: they give way when others need them. */
  get idlePages(): number[] {
    return this.#pools.map((pool) => pool.idle);
  }

  get totalPages(): number[] {
    return this.#pools.map((pool) => pool.size);
  }

  /** Pages that are reserved, per group. */
  get reservedPages(): number[] {
    return [...this.#reserved];
  }

  /** Finished sequences that a new one could go on from. */
  get idleSequences(): number {
    return this.#index.idleEnds;
  }

  /** Most positions of each sequence of a job that is alone. */
  largestOf(demand: Omit<CacheDemand, "positions">): number {
    return largestOf(this.#groups, this.#found(demand));
  }

  /** Most pages that a job holds at once, per group. */
  demand(demand: CacheDemand): number[] {
    return pagesOf(this.#groups, this.#found(demand));
  }

  /** @throws {CacheTooSmallError} when it could not run even alone */
  checkFits(demand: CacheDemand): void {
    for (const [i, needed] of this.demand(demand).entries()) {
      const { pages } = this.#groups[i]!;
      if (needed > pages) throw new CacheTooSmallError(demand.positions, needed, pages, PAGE_TOKENS, demand.width);
    }
  }

  /** Sets so many pages aside, or says false where others have set too many aside. */
  reserve(pages: readonly number[]): boolean {
    if (pages.some((count, i) => this.#reserved[i]! + count > this.#pools[i]!.size)) return false;
    for (const [i, count] of pages.entries()) this.#reserved[i]! += count;
    return true;
  }

  unreserve(pages: readonly number[]): void {
    for (const [i, count] of pages.entries()) this.#reserved[i]! -= count;
  }

  /** Pages that a sequence of so many positions would take of those that are free or idle, per group. */
  neededFor(request: CacheRequest, positions: number): number[] {
    const { path } = this.#match(request);
    return pagesFor(this.#groups, positions).map((pages, g) => {
      const inUse = path.filter((node) => node.pages[g]! >= 0 && !this.#pools[g]!.isIdle(node.pages[g]!)).length;
      return Math.max(0, pages - inUse);
    });
  }

  /** Pages that a hold lacks of those it takes for so many positions, per group. */
  owed({ pages }: CacheHold, positions: number): number[] {
    const { held } = pages;
    return pagesFor(this.#groups, positions).map((needed, g) => Math.max(0, needed - held[g]!));
  }

  /** Begins a sequence with what there is of it. */
  begin(request: CacheRequest): { hold: CacheHold; reused: number } {
    const { condition, ids, promptLength, publishing } = request;
    const pages = SequencePages.empty(this.#groups, this.#pools);
    const hold: CacheHold = {
      pages,
      condition,
      published: 0,
      node: null,
      publishing: publishing && promptLength <= this.fixedLength,
      source: null,
    };
    const { path, part } = this.#match(request);
    for (const node of path) pages.attach(node.pages);
    hold.published = path.length;
    hold.node = path.at(-1) ?? null;
    if (hold.node) this.#index.touch(hold.node);
    let reused = path.length * PAGE_TOKENS;
    const takesOver = part !== null && this.#takesOver(part, ids.length - reused);
    if (part && (takesOver || part.length >= LEAST_COPIED)) {
      reused += part.length;
      pages.attach(part.node.pages);
      if (takesOver) this.#index.forget(part.node);
      else {
        this.#index.touch(part.node);
        hold.source = part.node;
      }
    }
    pages.dropUnseen(reused);
    return { hold, reused };
  }

  /** Goes on with a page that another has completed meanwhile: the one with these 256 ids, after all that the hold has. */
  extend(hold: CacheHold, index: number, ids: Int32Array): boolean {
    if (hold.published !== index || hold.node?.forgotten) return false;
    const node = this.#index.find(hold.condition, hold.node, ids.subarray(index * PAGE_TOKENS, (index + 1) * PAGE_TOKENS));
    if (!node || node.pages.some((page) => page < 0)) return false;
    hold.pages.dropUnseen((index + 1) * PAGE_TOKENS);
    hold.pages.attach(node.pages);
    hold.published++;
    hold.node = node;
    this.#index.touch(node);
    return true;
  }

  /** Goes on in a page that a running sequence has begun alike: it is copied when either writes into it. */
  adopt(hold: CacheHold, index: number, other: CacheHold): boolean {
    const pages = other.pages.pageOf(index);
    if (pages.some((page) => page < 0)) return false;
    hold.pages.dropUnseen(index * PAGE_TOKENS);
    hold.pages.attach(pages);
    return true;
  }

  /**
   * Makes room for a step over positions `start` … `end − 1`; idle pages give way.
   *
   * @returns what has to be copied before the step, or `null` where the pages are not to be had
   */
  prepare(hold: CacheHold, start: number, end: number): PageCopy[] | null {
    const { pages } = hold;
    pages.dropUnseen(start);
    if (!this.#makeRoom(pages.needed(start, end))) {
      // Where only the index has the page besides, it can be written into once that forgets it.
      const shared = pages.sharedPages(start);
      const { source } = hold;
      if (!source || source.forgotten) return null;
      if (shared.some((page, g) => page !== null && !this.#pools[g]!.isKeptByOne(page))) return null;
      this.#index.forget(source);
      if (!this.#makeRoom(pages.needed(start, end))) return null;
    }
    hold.source = null;
    return pages.prepare(start, end);
  }

  /** Takes the page of position `end` a step early, where that needs nobody else's. */
  prepareNext({ pages }: CacheHold, end: number): void {
    if (this.#makeRoom(pages.neededNext(end))) pages.prepareNext(end);
  }

  /** Others may go on from its complete pages: `ids` are those whose KV is complete and stays as it is. */
  publish(hold: CacheHold, ids: Int32Array): void {
    if (!hold.publishing) return;
    const length = Math.min(ids.length, this.fixedLength);
    for (let end = (hold.published + 1) * PAGE_TOKENS; end <= length; end += PAGE_TOKENS) {
      if (hold.node?.forgotten) {
        hold.publishing = false;
        return;
      }
      const pages = hold.pages.pageOf(hold.published);
      const node = this.#index.add(hold.condition, hold.node, ids.subarray(end - PAGE_TOKENS, end), pages);
      if (!node) {
        hold.publishing = false;
        return;
      }
      hold.node = node;
      hold.published++;
    }
  }

  /**
   * Forgets what a sequence has from position `length` on.
   *
   * @returns how much is left: `length`, or nothing where a window has left behind what is seen from there
   */
  truncate(hold: CacheHold, length: number): number {
    hold.pages.truncate(length);
    for (const whole = Math.floor(length / PAGE_TOKENS); hold.published > whole; hold.published--) {
      hold.source = hold.node; // it goes on in a page of the index, where that is cut in the middle
      hold.node = hold.node?.parent?.parent ? hold.node.parent : null; // a root is no node of a sequence
    }
    if (hold.pages.reaches(length)) return length;
    this.release(hold);
    hold.published = 0;
    hold.node = null;
    return 0;
  }

  /**
   * Ends a sequence, and keeps its KV for a later one that begins alike.
   *
   * @param ids those whose KV is complete, from position 0
   */
  retire(hold: CacheHold, ids: Int32Array): void {
    this.publish(hold, ids);
    const begin = hold.published * PAGE_TOKENS;
    const end = Math.min(ids.length, this.fixedLength, begin + PAGE_TOKENS);
    const pages = hold.pages.pageOf(hold.published);
    if (hold.publishing && end > begin && !hold.node?.forgotten && pages.every((page) => page >= 0))
      this.#index.addTail(hold.condition, hold.node, ids.subarray(begin, end), pages);
    if (hold.node && !hold.node.forgotten) this.#index.touch(hold.node);
    this.release(hold);
  }

  /** Ends a sequence; its pages are free, but for those that others hold. */
  release(hold: CacheHold): void {
    hold.pages.release();
    hold.source = null;
  }

  /** A second sequence with the same KV. */
  fork(hold: CacheHold): CacheHold {
    return { ...hold, pages: hold.pages.fork() };
  }

  /** Forgets all that no running sequence holds. */
  clear(): void {
    this.#index.clear();
  }

  /** So many leading ids of a request can be had from elsewhere, if they are there. */
  reusableOf({ promptLength, reusable }: CacheRequest): number {
    return promptLength > this.fixedLength ? 0 : Math.min(reusable, this.fixedLength);
  }

  /** What depends on the length is not found again by sequences that are computed anew, so they do not share it. */
  #found<T extends Omit<CacheDemand, "positions">>(demand: T): T {
    if (this.fixedLength === Number.POSITIVE_INFINITY) return demand;
    return { ...demand, shared: demand.shared <= this.fixedLength ? demand.shared : 0, apart: undefined };
  }

  #match(request: CacheRequest): PrefixMatch {
    return this.#index.match(request.condition, request.ids, this.reusableOf(request));
  }

  /**
   * A finished sequence's last page is written on where it lies when nobody else holds it and
   * what shares it is the next turn of the same chat, or the same prompt again. Others leave
   * it alone and go on in a copy.
   *
   * @param rest ids of the new sequence from this page's beginning on
   */
  #takesOver({ node, length }: NonNullable<PrefixMatch["part"]>, rest: number): boolean {
    if (node.isFull || !node.pages.every((page, g) => page < 0 || !this.#pools[g]!.isShared(page))) return false;
    return 2 * length >= node.ids.length || 2 * length >= rest;
  }

  #makeRoom(needed: readonly number[]): boolean {
    if (needed.some((count, g) => count > this.#pools[g]!.free + this.#pools[g]!.idle)) return false;
    for (const [g, count] of needed.entries()) while (this.#pools[g]!.free < count && this.#index.evict(g));
    return needed.every((count, g) => count <= this.#pools[g]!.free);
  }
}
