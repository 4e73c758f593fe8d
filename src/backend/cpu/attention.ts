// Attention of one layer, shared among the team: rotation and the writing of keys and values
// row by row, then blocks of queries over the pages.
//
// While several tokens of a sequence are fed, a thread takes a block of queries of one KV head
// through all its pages. While every sequence feeds one token, the pages of a head are spread
// over the threads instead, and merged afterwards in page order. Both give the same bits,
// because a partial softmax is made per page either way (wasm/float-attention.ts).

import type { CacheType } from "../../memory/packing.js";
import { PAGE_TOKENS } from "../../memory/plan.js";
import type { AttentionSpec } from "../../model/spec.js";
import { CACHE_KINDS, pageHeadBytes } from "./cache-layout.js";
import type { FloatKernels } from "./kernels.js";
import { partialBytes, threadPlaces } from "./scratch.js";
import type { Step } from "./step.js";

/** Byte offsets into the arena of the layer. */
export interface AttentionPlaces {
  readonly q: number;
  readonly k: number;
  readonly v: number;
  readonly rope: number;
  readonly keys: number;
  readonly values: number;
  /** 0 where there is none. */
  readonly qNorm: number;
  readonly kNorm: number;
  /** This thread's piece of `scratch.threads`. */
  readonly thread: number;
  readonly partials: number;
  /** Partials that fit there: pages × heads. */
  readonly partialPages: number;
}

export class Attention {
  readonly #kernels: FloatKernels;
  readonly #spec: AttentionSpec;
  readonly #at: AttentionPlaces;
  /** Index of the layer's cache group: which page table counts. */
  readonly #group: number;
  readonly #cache: CacheType;
  readonly #pageHead: number;
  readonly #thread: ReturnType<typeof threadPlaces>;

  constructor(kernels: FloatKernels, spec: AttentionSpec, at: AttentionPlaces, group: number, cache: CacheType) {
    this.#kernels = kernels;
    this.#spec = spec;
    this.#at = at;
    this.#group = group;
    this.#cache = cache;
    this.#pageHead = pageHeadBytes(spec, cache);
    this.#thread = threadPlaces(spec);
  }

  /** Rotates the row's queries and keys, and writes its keys and values into their page. */
  storeRow(step: Step, row: number): void {
    for (let head = 0; head < this.#spec.kvHeads; head++) this.#storeHead(step, row, head);
  }

  /** The same for one KV head and its queries. */
  #storeHead(step: Step, row: number, head: number): void {
    const { heads, kvHeads, headDim, qNorm, kNorm } = this.#spec;
    const at = this.#at;
    const group = heads / kvHeads;
    const q = at.q + (row * heads + head * group) * headDim * 4;
    const k = at.k + (row * kvHeads + head) * headDim * 4;
    const v = at.v + (row * kvHeads + head) * headDim * 4;
    const cos = at.rope + row * headDim * 4;
    const sin = cos + headDim * 2;
    const scale = 1 / Math.sqrt(headDim);
    this.#kernels.rope_heads(q, group, headDim, cos, sin, at.qNorm, qNorm?.eps ?? 0, scale);
    this.#kernels.rope_heads(k, 1, headDim, cos, sin, at.kNorm, kNorm?.eps ?? 0, 1);
    if (this.#cache === "q4") {
      this.#kernels.rotate_heads(q, group, headDim);
      this.#kernels.rotate_heads(k, 1, headDim);
      this.#kernels.rotate_heads(v, 1, headDim);
    }
    const position = step.position(row);
    const page = step.page(step.entryOf(row), this.#group, Math.floor(position / PAGE_TOKENS));
    const piece = (page * kvHeads + head) * this.#pageHead;
    this.#store(k, v, at.keys + piece, at.values + piece, position % PAGE_TOKENS);
  }

  /**
   * Whether a thread had best do all that there is to do for a row and a KV head: every sequence feeds one
   * token, and there are enough of them that no thread is left with nothing to do.
   */
  byHead(step: Step, threads: number): boolean {
    const items = step.rows * this.#spec.kvHeads;
    return step.oneRowEach && (items % threads === 0 || items >= threads * 4);
  }

  /** One row and KV head: rotates, stores, attends to all pages, and leaves the output in the place of its queries. */
  runHead(step: Step, row: number, head: number): void {
    this.#storeHead(step, row, head);
    this.#block(step, step.entryOf(row), head, 0);
  }

  /** Where the output of a KV head begins among a row's. */
  outputOf(head: number): number {
    const { heads, kvHeads, headDim } = this.#spec;
    return ((head * heads) / kvHeads) * headDim;
  }

  /** One token's key and value of one KV head, to their (page, KV head). */
  #store(key: number, value: number, keys: number, values: number, slot: number): void {
    const { headDim } = this.#spec;
    if (this.#cache === "q8") this.#kernels.store_codes_8(key, value, keys, values, headDim, slot);
    else if (this.#cache === "q4") this.#kernels.store_codes_4(key, value, keys, values, headDim, slot, this.#at.thread);
    else this.#kernels.store_key_value(key, value, keys, values, headDim, slot, CACHE_KINDS[this.#cache]);
  }

  /** The output of one KV head's queries, laid out as they are. */
  #finish(sums: number, out: number, tokens: number): void {
    const { heads, kvHeads, headDim } = this.#spec;
    const group = heads / kvHeads;
    this.#kernels.finish_attention(sums, out, heads * headDim, tokens, group, headDim);
    if (this.#cache !== "q4") return;
    for (let token = 0; token < tokens; token++) this.#kernels.rotate_heads(out + token * heads * headDim * 4, group, headDim);
  }

  /** Whether the pages of this step are spread over threads and finish() is needed. */
  spreads(step: Step): boolean {
    if (!step.oneRowEach) return false;
    let pages = 0;
    for (let entry = 0; entry < step.entries; entry++) pages += this.#lastPage(step, entry) - this.#firstPage(step, entry) + 1;
    return pages <= this.#at.partialPages;
  }

  /** Pieces of work that threads claim. */
  items(step: Step, spread: boolean): number {
    let items = 0;
    for (let entry = 0; entry < step.entries; entry++) items += this.#itemsOf(step, entry, spread);
    return items * this.#spec.kvHeads;
  }

  runItem(step: Step, spread: boolean, item: number): void {
    let rest = item;
    for (let entry = 0, before = 0; entry < step.entries; entry++) {
      const count = this.#itemsOf(step, entry, spread);
      if (rest < count * this.#spec.kvHeads) {
        const head = Math.floor(rest / count);
        if (spread) this.#onePage(step, entry, head, before + (rest % count), this.#firstPage(step, entry) + (rest % count));
        // The last block sees most keys: begin with it, so that no thread is left with it at the end.
        else this.#block(step, entry, head, count - 1 - (rest % count));
        return;
      }
      rest -= count * this.#spec.kvHeads;
      before += count;
    }
  }

  /** Merges the spread pages of a row, in page order, and leaves the output in the place of its queries. */
  finishRow(step: Step, row: number): void {
    const { heads, kvHeads, headDim } = this.#spec;
    const group = heads / kvHeads;
    let first = 0;
    for (let entry = 0; entry < row; entry++) first += this.#itemsOf(step, entry, true);
    const pages = this.#itemsOf(step, row, true);
    const sums = this.#at.thread + this.#thread.sums;
    const bytes = partialBytes(headDim);
    for (let head = 0; head < kvHeads; head++) {
      this.#kernels.clear_partials(sums, group, headDim);
      for (let page = first; page < first + pages; page++)
        this.#kernels.merge_partials(sums, this.#at.partials + (page * heads + head * group) * bytes, group, headDim);
      const out = this.#at.q + (row * heads + head * group) * headDim * 4;
      this.#finish(sums, out, 1);
    }
  }

  #itemsOf(step: Step, entry: number, spread: boolean): number {
    if (spread) return this.#lastPage(step, entry) - this.#firstPage(step, entry) + 1;
    return Math.ceil(step.rowsOf(entry) / this.#thread.tokens);
  }

  #firstPage(step: Step, entry: number): number {
    const { window } = this.#spec;
    return window === null ? 0 : Math.floor(Math.max(0, step.startOf(entry) - window + 1) / PAGE_TOKENS);
  }

  #lastPage(step: Step, entry: number): number {
    return Math.floor((step.startOf(entry) + step.rowsOf(entry) - 1) / PAGE_TOKENS);
  }

  #onePage(step: Step, entry: number, head: number, slot: number, page: number): void {
    const { heads, kvHeads, headDim } = this.#spec;
    const partials = this.#at.partials + (slot * heads + (head * heads) / kvHeads) * partialBytes(headDim);
    this.#attend(step, entry, head, step.firstRowOf(entry), 1, page, partials);
  }

  #block(step: Step, entry: number, head: number, block: number): void {
    const { heads, kvHeads, headDim, window } = this.#spec;
    const group = heads / kvHeads;
    const from = block * this.#thread.tokens;
    const tokens = Math.min(this.#thread.tokens, step.rowsOf(entry) - from);
    const row = step.firstRowOf(entry) + from;
    const position = step.startOf(entry) + from;
    const partials = this.#at.thread + this.#thread.partials;
    const sums = this.#at.thread + this.#thread.sums;
    this.#kernels.clear_partials(sums, tokens * group, headDim);
    const firstPage = window === null ? 0 : Math.floor(Math.max(0, position - window + 1) / PAGE_TOKENS);
    for (let page = firstPage; page * PAGE_TOKENS < position + tokens; page++) {
      this.#attend(step, entry, head, row, tokens, page, partials);
      this.#kernels.merge_partials(sums, partials, tokens * group, headDim);
    }
    const out = this.#at.q + (row * heads + head * group) * headDim * 4;
    this.#finish(sums, out, tokens);
  }

  #attend(step: Step, entry: number, head: number, row: number, tokens: number, page: number, partials: number): void {
    const { heads, kvHeads, headDim, window } = this.#spec;
    const group = heads / kvHeads;
    const piece = (step.page(entry, this.#group, page) * kvHeads + head) * this.#pageHead;
    this.#kernels.attend_page(
      this.#at.q + (row * heads + head * group) * headDim * 4,
      heads * headDim,
      tokens,
      group,
      headDim,
      step.position(row) - page * PAGE_TOKENS,
      window ?? 0,
      this.#at.keys + piece,
      this.#at.values + piece,
      CACHE_KINDS[this.#cache],
      this.#at.thread + this.#thread.kernel,
      partials,
    );
  }
}
