// A page of the index: its ids, where their KV lies, and what goes on from it.

import { PAGE_TOKENS } from "../memory/plan.js";
import type { PageId } from "./page-pool.js";

export class PageNode {
  /** `null`: the root of a condition's tree, which has no page. */
  readonly parent: PageNode | null;
  /** A page's ids; fewer in the last page of a sequence. */
  readonly ids: Int32Array;
  /** Per group; {@link DROPPED} where there is none any more, or never was. */
  readonly pages: PageId[];
  /** By {@link hashIds}; of two that hash alike only the first is here. */
  readonly next = new Map<number, PageNode>();
  /** Last pages that are not full. */
  readonly tails = new Set<PageNode>();
  /** Of a root; `null` for all others. */
  readonly condition: string | null;
  forgotten = false;

  constructor(parent: PageNode | null, ids: Int32Array, pages: PageId[], condition: string | null = null) {
    this.parent = parent;
    this.ids = ids;
    this.pages = pages;
    this.condition = condition;
  }

  get isFull(): boolean {
    return this.ids.length === PAGE_TOKENS;
  }
}

/** FNV-1a over 32 bits. */
export function hashIds(ids: Int32Array): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < ids.length; i++) hash = Math.imul(hash ^ ids[i]!, 0x01000193);
  return hash;
}

export function commonPrefix(a: Int32Array, b: Int32Array): number {
  const end = Math.min(a.length, b.length);
  let length = 0;
  while (length < end && a[length] === b[length]) length++;
  return length;
}
