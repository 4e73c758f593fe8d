// The KV pages of one cache group, which the plan has allocated for good. A page is free or
// held, possibly by several sequences that share what is in it; there are never more than the
// plan says.

/** Index of a physical page in the pools of a cache group's layers. */
export type PageId = number;

export class PagePool {
  readonly size: number;
  readonly #references: Int32Array;
  /** A stack: the first `#freeCount` are free. */
  readonly #free: Int32Array;
  #freeCount: number;

  constructor(size: number) {
    this.size = size;
    this.#references = new Int32Array(size);
    this.#free = Int32Array.from({ length: size }, (_, i) => size - 1 - i);
    this.#freeCount = size;
  }

  get free(): number {
    return this.#freeCount;
  }

  /** Takes a free page, held once. Callers make sure that there is one. */
  take(): PageId {
    if (this.#freeCount === 0) throw new RangeError(`all ${this.size} KV pages are held`);
    const page = this.#free[--this.#freeCount]!;
    this.#references[page] = 1;
    return page;
  }

  /** One more holder of a page that is held already. */
  share(page: PageId): void {
    this.#checkHeld(page);
    this.#references[page]!++;
  }

  /** One holder less; the last one frees the page. */
  release(page: PageId): void {
    this.#checkHeld(page);
    if (--this.#references[page]! === 0) this.#free[this.#freeCount++] = page;
  }

  #checkHeld(page: PageId): void {
    if (!this.#references[page]) throw new RangeError(`KV page ${page} of ${this.size} is not held`);
  }
}
