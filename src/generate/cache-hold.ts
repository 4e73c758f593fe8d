// What a sequence asks of the KV cache when it begins, and what it has of it while it runs.

import type { PageNode } from "./page-node.js";
import type { SequencePages } from "./sequence-pages.js";

/** A sequence that begins, or begins again. */
export interface CacheRequest {
  /** What its KV depends on beside its ids. */
  readonly condition: string;
  readonly ids: Int32Array;
  /** So many of them are its prompt. */
  readonly promptLength: number;
  /** Most ids whose KV may come from elsewhere. */
  readonly reusable: number;
  /** Its pages may serve others. */
  readonly publishing: boolean;
}

/** What one strand has of the cache. */
export interface CacheHold {
  readonly pages: SequencePages;
  /** What its KV depends on beside its ids. */
  readonly condition: string;
  /** Others may use its pages: so many leading ones are in the index, the last of them `node`. */
  published: number;
  node: PageNode | null;
  /** Whether more of them may come into the index. */
  publishing: boolean;
  /** A page of the index that the strand goes on in: it is copied before it is written into. */
  source: PageNode | null;
}
