// Finished sequences whose KV is still there, in case the next request begins as they do: the
// next turn of a chat, or the same prompt again. Least recently used ones go first when their
// pages are needed.

import type { SequencePages } from "./sequence-pages.js";

export interface IdleSequence {
  /** Ids whose KV is in the pages, from position 0. */
  readonly ids: Int32Array;
  readonly pages: SequencePages;
}

export interface PrefixMatch {
  readonly idle: IdleSequence;
  /** Ids that both begin with, and whose KV can be kept. */
  readonly length: number;
}

export class IdleSequences {
  /** Least recently used first. */
  readonly #entries: IdleSequence[] = [];

  get size(): number {
    return this.#entries.length;
  }

  add(idle: IdleSequence): void {
    this.#entries.push(idle);
  }

  /**
   * The sequence that shares the longest beginning with `prompt`, the most recent among equals;
   * `null` when none shares anything that can be kept.
   *
   * @param limit most ids that may be kept
   */
  longestMatch(prompt: Int32Array, limit: number): PrefixMatch | null {
    let best: PrefixMatch | null = null;
    for (const idle of this.#entries) {
      const length = commonPrefix(idle.ids, prompt, limit);
      if (length > 0 && length >= (best?.length ?? 0) && idle.pages.reaches(length)) best = { idle, length };
    }
    return best;
  }

  /** Takes a sequence out: its pages are the caller's now. */
  remove(idle: IdleSequence): void {
    this.#entries.splice(this.#entries.indexOf(idle), 1);
  }

  /** Gives the pages of the least recently used one back; false when there is none. */
  evict(): boolean {
    const oldest = this.#entries.shift();
    oldest?.pages.release();
    return oldest !== undefined;
  }
}

function commonPrefix(a: Int32Array, b: Int32Array, limit: number): number {
  const end = Math.min(a.length, b.length, limit);
  let length = 0;
  while (length < end && a[length] === b[length]) length++;
  return length;
}
