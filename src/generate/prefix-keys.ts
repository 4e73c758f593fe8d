// Numbers by which running sequences find out that they begin alike: the same for the same ids,
// nearly always another for others. Whoever acts on one compares the ids themselves.

import { PAGE_TOKENS } from "../memory/plan.js";
import { LEAST_COPIED } from "./kv-cache.js";

export interface PrefixKeys {
  /** Ids whose KV can be had from elsewhere, if it is there. */
  readonly length: number;
  /** For each full page of them. */
  readonly pages: readonly number[];
  /** For what is left after those; `null` where that is too little to be shared. */
  readonly tail: number | null;
}

export const NO_KEYS: PrefixKeys = { length: 0, pages: [], tail: null };

/** Hashes (FNV-1a) of everything up to the end of each page. */
export function prefixKeys(condition: string, ids: Int32Array): PrefixKeys {
  const pages: number[] = [];
  let hash = 0x811c9dc5;
  const add = (word: number): void => {
    hash = Math.imul(hash ^ word, 0x01000193);
  };
  for (let i = 0; i < condition.length; i++) add(condition.charCodeAt(i));
  for (let i = 0; i < ids.length; i++) {
    add(ids[i]!);
    if ((i + 1) % PAGE_TOKENS === 0) pages.push(hash);
  }
  add(ids.length);
  return { length: ids.length, pages, tail: ids.length % PAGE_TOKENS < LEAST_COPIED ? null : hash };
}
