// A strand with its place in the KV cache: which of its ids are fed, which were asked about,
// which pages it holds. When it has to give its pages back it keeps its ids, and computes their
// KV again later, without asking anybody about them again.

import type { BatchEntry, Output, PageCopy } from "../backend/backend.js";
import { PAGE_TOKENS } from "../memory/plan.js";
import type { CacheHold, CacheRequest } from "./cache-hold.js";
import { IdBuffer } from "./id-buffer.js";
import type { Job, JobPrompt, Strand, StrandAnswer } from "./job.js";
import type { KvCache } from "./kv-cache.js";
import { commonPrefix } from "./page-node.js";
import { NO_KEYS, type PrefixKeys, prefixKeys } from "./prefix-keys.js";

/** Whose strand it is. */
export interface SequenceOwner {
  readonly job: Job;
  add(sequence: Sequence): void;
  remove(sequence: Sequence): void;
}

export class Sequence implements Strand {
  readonly promptLength: number;
  readonly #owner: SequenceOwner;
  readonly #cache: KvCache;
  readonly #ids: IdBuffer;
  /** Most ids whose KV may come from elsewhere, before anything was asked. */
  readonly #reusable: number;
  /** `null`: it has no place in the cache. */
  #hold: CacheHold | null = null;
  #fed = 0;
  #reused = 0;
  /** Positions that its job has been asked about. */
  #asked = 0;
  /** So many ids are prompt, or were judged before it gave its pages back: they stand, and others may use their pages. */
  #settled: number;
  /** What can be had from elsewhere, and for each of its pages a hash of all ids up to its end. */
  #keys: PrefixKeys = NO_KEYS;

  constructor(owner: SequenceOwner, cache: KvCache, { ids, reusable }: JobPrompt, promptLength = ids.length) {
    this.#owner = owner;
    this.#cache = cache;
    this.#ids = new IdBuffer(ids);
    this.#reusable = reusable;
    this.promptLength = promptLength;
    this.#settled = promptLength;
  }

  get job(): Job {
    return this.#owner.job;
  }

  get ids(): Int32Array {
    return this.#ids.view(0, this.#ids.length);
  }

  get fed(): number {
    return this.#fed;
  }

  get reused(): number {
    return this.#reused;
  }

  get remaining(): number {
    return this.#ids.length - this.#fed;
  }

  /** Every id is fed and its job has been asked about it. */
  get complete(): boolean {
    return this.remaining === 0;
  }

  /** It feeds what its job has just appended, not its prompt and nothing that was fed before. */
  get decoding(): boolean {
    return this.#fed >= this.#settled;
  }

  get pages(): CacheHold["pages"] {
    return this.#held().pages;
  }

  append(...ids: number[]): void {
    this.#held();
    for (const id of ids) this.#ids.push(id);
  }

  truncate(length: number): void {
    const hold = this.#held();
    if (length < this.promptLength || length > this.#ids.length)
      throw new RangeError(`a strand of ${this.#ids.length} ids, ${this.promptLength} of them prompt, is cut to ${length}`);
    this.#ids.truncate(length);
    this.#asked = Math.min(this.#asked, length);
    if (length > this.#fed) return;
    this.#fed = this.#cache.truncate(hold, length);
    this.#settled = this.#fed === length ? Math.min(this.#settled, length) : length;
  }

  fork(): Sequence {
    const hold = this.#cache.fork(this.#held());
    const fork = new Sequence(this.#owner, this.#cache, { ids: this.ids, reusable: this.#reusable }, this.promptLength);
    fork.#hold = hold;
    fork.#fed = this.#fed;
    fork.#asked = this.#asked;
    fork.#settled = this.#settled;
    fork.#keys = this.#keys;
    this.#owner.add(fork);
    return fork;
  }

  drop(): void {
    this.release();
    this.#owner.remove(this);
  }

  /** What it begins with, or goes on from after it had to give its pages back. */
  get request(): CacheRequest {
    const { condition, keep } = this.job;
    const reusable = Math.max(this.#reusable, this.#asked);
    return { condition, ids: this.ids, promptLength: this.promptLength, reusable, publishing: keep };
  }

  /** Takes its place in the cache; says how many positions were there already. */
  begin(): number {
    const { request } = this;
    const { hold, reused } = this.#cache.begin(request);
    this.#hold = hold;
    this.#fed = reused;
    if (this.#asked === 0) this.#reused = reused;
    this.#settled = Math.max(this.promptLength, this.#asked);
    this.#keys = prefixKeys(request.condition, request.ids.subarray(0, this.#cache.reusableOf(request)));
    return reused;
  }

  /** Gives its pages back, to be computed again later. */
  giveWay(): void {
    const hold = this.#held();
    this.#cache.retire(hold, this.#ids.view(0, this.#fed));
    this.#hold = null;
    this.#fed = 0;
  }

  /** Ends; its KV may serve a later request. */
  retire(): void {
    if (!this.#hold) return;
    this.#cache.retire(this.#hold, this.#ids.view(0, this.#fed));
    this.#hold = null;
  }

  /** Ends; its KV is forgotten. */
  release(): void {
    if (!this.#hold) return;
    this.#cache.release(this.#hold);
    this.#hold = null;
  }

  /**
   * Which page it is in the middle of, the same number for all sequences that begin alike up to its
   * end, or in the last page up to where the prompt's KV can be had from elsewhere; `null`: none.
   */
  get pageKey(): number | null {
    if (!this.#hold?.publishing || this.#fed >= this.#keys.length) return null;
    return this.#keys.pages[Math.floor(this.#fed / PAGE_TOKENS)] ?? this.#keys.tail;
  }

  /** The page that it begins next, as {@link pageKey} numbers it, where it stands at a page's beginning. */
  get nextPageKey(): number | null {
    if (this.#fed % PAGE_TOKENS > 0 || this.#fed >= this.#keys.length) return null;
    return this.#keys.pages[this.#fed / PAGE_TOKENS] ?? this.#keys.tail;
  }

  /** Of its prompt's last page: the same number for all whose prompts are the same; `null`: it is not worth sharing. */
  get tailKey(): number | null {
    return this.#keys.tail;
  }

  /** Goes on with pages that others have completed meanwhile; says with how many positions. */
  follow(): number {
    const hold = this.#held();
    const before = this.#fed;
    while (
      this.#fed < this.#keys.pages.length * PAGE_TOKENS &&
      this.#fed % PAGE_TOKENS === 0 &&
      this.#cache.extend(hold, this.#fed / PAGE_TOKENS, this.ids)
    )
      this.#fed += PAGE_TOKENS;
    if (this.#asked <= before) this.#reused += this.#fed - before;
    return this.#fed - before;
  }

  /** Goes on in the last page of a running sequence with the same prompt; says with how many positions. */
  adopt(other: Sequence): number {
    const { length } = this.#keys;
    const begin = this.#keys.pages.length * PAGE_TOKENS;
    if (this.#fed !== begin || other.fed < length || this.job.condition !== other.job.condition) return 0;
    if (commonPrefix(this.ids.subarray(0, length), other.ids) < length) return 0;
    if (!this.#cache.adopt(this.#held(), this.#keys.pages.length, other.#held())) return 0;
    this.#fed = length;
    if (this.#asked <= begin) this.#reused += length - begin;
    return length - begin;
  }

  /** Where a step that feeds at most up to `wanted` must end. */
  chunkEnd(wanted: number): number {
    return this.#held().pages.chunkEnd(this.#fed, Math.min(wanted, this.#ropeEnd()));
  }

  /** Makes room for a step up to `end`; `null` where the pages are not to be had. */
  prepare(end: number): PageCopy[] | null {
    return this.#cache.prepare(this.#held(), this.#fed, end);
  }

  /** What may come after a step up to `end` shall find its page: then the step after it can be begun before it is known. */
  prepareNext(end: number): void {
    if (this.decoding && end % PAGE_TOKENS === 0 && end < this.job.positions) this.#cache.prepareNext(this.#held(), end);
  }

  /** Pages that it lacks for all its ids and one more, per group. */
  get owedPages(): number[] {
    return this.#cache.owed(this.#held(), Math.min(this.job.positions, this.#ids.length + 1));
  }

  /** The step's part that feeds everything up to `end`; its pages must have been prepared. */
  entry(end: number): BatchEntry {
    const start = this.#fed;
    const asking = Math.max(start, this.#asked);
    const outputs = asking < end ? this.job.outputs(this, asking, end) : [];
    return {
      tokens: this.#ids.view(start, end),
      start,
      ropeLength: start < this.promptLength ? this.promptLength : end,
      pages: this.#held().pages.views(end),
      ...(this.job.adapters?.length ? { adapters: this.job.adapters } : {}),
      outputs: asking === start ? outputs : outputs.map((output) => ({ ...output, index: output.index + asking - start })),
    };
  }

  /** The step is over: everything up to `end` is fed. Returns what is to be told to its job, if anything. */
  advance(end: number, outputs: readonly Output[]): StrandAnswer | null {
    const start = Math.max(this.#fed, this.#asked);
    this.#fed = end;
    this.#cache.publish(this.#held(), this.#ids.view(0, Math.min(end, this.#settled)));
    if (end <= this.#asked) return null;
    this.#asked = end;
    return { strand: this, start, end, outputs };
  }

  /**
   * With dynamic RoPE a prompt's positions are rotated for its whole length and each later one for
   * its own, so beyond the original context a step holds one or the other.
   */
  #ropeEnd(): number {
    const { fixedLength } = this.#cache;
    if (this.#fed < this.promptLength) return this.promptLength > fixedLength ? this.promptLength : fixedLength;
    return Math.max(this.#fed + 1, fixedLength);
  }

  #held(): CacheHold {
    if (!this.#hold) throw new RangeError("a strand that has been dropped, or has no place in the cache, is used");
    return this.#hold;
  }
}
