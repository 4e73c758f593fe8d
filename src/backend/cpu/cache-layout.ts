// Where keys and values lie. A layer's pool is pages of 256 tokens; inside a page each KV head
// has its own piece, keys in blocks of eight tokens `[32][headDim][8]` (so that eight scores
// grow side by side), values `[256][headDim]`. The quantised types have sizes only: they
// belong to plans for other devices, and loading refuses them here.

import type { CacheType } from "../../memory/packing.js";
import { PAGE_TOKENS } from "../../memory/plan.js";
import type { AttentionSpec } from "../../model/spec.js";

/** Bytes that one token takes in the keys (and again in the values) of one KV head. */
export function cacheTokenBytes(headDim: number, type: CacheType): number {
  switch (type) {
    case "f32":
      return headDim * 4;
    case "f16":
      return headDim * 2;
    case "q8":
      return headDim + 2;
    case "q4":
      return headDim / 2 + headDim / 16;
  }
}

/** Bytes of the keys (or the values) of one page and one KV head. */
export function pageHeadBytes(attention: AttentionSpec, type: CacheType): number {
  return PAGE_TOKENS * cacheTokenBytes(attention.headDim, type);
}
