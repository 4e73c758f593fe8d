// Where keys and values lie. A layer's pool is pages of 256 tokens; inside a page each KV head
// has its own piece, keys in blocks of eight tokens `[32][headDim][8]` (so that eight scores
// grow side by side), values `[256][headDim]`. The quantised types keep codes in that order and
// their scales behind them: wasm/cache-codes.ts.

import type { CacheType } from "../../memory/packing.js";
import { PAGE_TOKENS } from "../../memory/plan.js";
import type { AttentionSpec } from "../../model/spec.js";

/** How the kernels name the types. */
export const CACHE_KINDS: Readonly<Record<CacheType, number>> = { f32: 0, f16: 1, q8: 2, q4: 3 };

/** Bytes that one token takes in the keys (and again in the values) of one KV head. */
export function cacheTokenBytes(headDim: number, type: CacheType): number {
  switch (type) {
    case "f32":
      return headDim * 4;
    case "f16":
      return headDim * 2;
    case "q8":
      return headDim + 2; // an f16 scale
    case "q4":
      return headDim / 2 + 2 * Math.ceil(headDim / 32); // an f16 scale for every 32
  }
}

/** Bytes of the keys (or the values) of one page and one KV head. */
export function pageHeadBytes(attention: AttentionSpec, type: CacheType): number {
  return PAGE_TOKENS * cacheTokenBytes(attention.headDim, type);
}
