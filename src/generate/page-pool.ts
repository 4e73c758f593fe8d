// The KV pages of one cache group, which the plan has allocated for good. A page is free or
// held, possibly by several sequences that share what is in it; there are never more than the
// plan says. The page index, which keeps pages of earlier sequences for later ones, is a holder
// apart: pages that it alone holds are idle, and can be freed when others need them.

/** Index of a physical page in the pools of a cache group's layers. */
export type PageId = number;

export class PagePool {
  readonly size: number;
  /** Holders, the index included. */
  readonly #holders: Int32Array;
  /** 1: the index is one of them. */
  readonly #kept: Uint8Array;
  /** A stack: the first `#freeCount` are free. */
  readonly #free: Int32Array;
  #freeCount: number;
  #idleCount = 0;

  constructor(size: number) {
    this.size = size;
    this.#holders = new Int32Array(size);
    this.#kept = new Uint8Array(size);
    this.#free = Int32Array.from({ length: size }, (_, i) => size - 1 - i);
    this.#freeCount = size;
  }

  get free(): number {
    return this.#freeCount;
  }

  /** Pages that the index alone holds. */
  get idle(): number {
    return this.#idleCount;
  }

  /** Takes a free page, held once. Callers make sure that there is one. */
  take(): PageId {
    if (this.#freeCount === 0) throw new RangeError(`all ${this.size} KV pages are held`);
    const page = this.#free[--this.#freeCount]!;
    this.#holders[page] = 1;
    return page;
  }

  /** One more holder of a page that is held already. */
  share(page: PageId): void {
    this.#checkHeld(page);
    if (this.isIdle(page)) this.#idleCount--;
    this.#holders[page]!++;
  }

  /** One holder less, not the index; the last one frees the page. */
  release(page: PageId): void {
    this.#checkHeld(page);
    if (this.isIdle(page)) throw new RangeError(`KV page ${page} is held by the index alone`);
    if (--this.#holders[page]! === 0) this.#free[this.#freeCount++] = page;
    else if (this.isIdle(page)) this.#idleCount++;
  }

  /** The index holds it from now on. */
  keep(page: PageId): void {
    this.#checkHeld(page);
    if (this.#kept[page]) throw new RangeError(`KV page ${page} is kept twice`);
    this.#holders[page]!++;
    this.#kept[page] = 1;
  }

  /** The index does not hold it any more. */
  unkeep(page: PageId): void {
    if (!this.#kept[page]) throw new RangeError(`KV page ${page} of ${this.size} is not kept`);
    if (this.isIdle(page)) this.#idleCount--;
    this.#kept[page] = 0;
    if (--this.#holders[page]! === 0) this.#free[this.#freeCount++] = page;
  }

  isKept(page: PageId): boolean {
    return this.#kept[page] === 1;
  }

  /** Held by the index alone. */
  isIdle(page: PageId): boolean {
    return this.#holders[page] === 1 && this.#kept[page] === 1;
  }

  isShared(page: PageId): boolean {
    return this.#holders[page]! > 1;
  }

  /** Held by the index and one sequence. */
  isKeptByOne(page: PageId): boolean {
    return this.#holders[page] === 2 && this.#kept[page] === 1;
  }

  #checkHeld(page: PageId): void {
    if (!this.#holders[page]) throw new RangeError(`KV page ${page} of ${this.size} is not held`);
  }
}
