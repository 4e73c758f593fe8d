// Proposals without a draft model ("prompt lookup"): answers often repeat what the text has said
// before (names, code, quotations), so what followed the same few ids last time is a good guess
// of what follows now. The index grows by one id at a time, each in constant time.

/** Shortest and longest run of ids that is looked for. */
export interface NgramBounds {
  readonly shortest: number;
  readonly longest: number;
}

/** Runs shorter than three ids match too much by chance; longer ones than six rarely differ from those of six. */
export const NGRAM_BOUNDS: NgramBounds = { shortest: 3, longest: 6 };

const HASH_FACTOR = 0x01000193;

export class NgramIndex {
  readonly #bounds: NgramBounds;
  readonly #ids: number[] = [];
  /** Per length from `shortest`: hash of a run → where it last ended, that is the index of the id after it. */
  readonly #ends: Map<number, number>[];

  constructor(bounds: NgramBounds = NGRAM_BOUNDS) {
    this.#bounds = bounds;
    this.#ends = Array.from({ length: bounds.longest - bounds.shortest + 1 }, () => new Map());
  }

  get length(): number {
    return this.#ids.length;
  }

  append(ids: ArrayLike<number>): void {
    for (let i = 0; i < ids.length; i++) {
      // A run is known from the moment on when something follows it.
      if (this.#ids.length > 0) this.#remember(this.#ids.length);
      this.#ids.push(ids[i]!);
    }
  }

  /**
   * Up to `count` ids that followed the latest earlier occurrence of the longest run in which
   * the text ends; none where no run of at least the shortest length occurred before. Where the
   * occurrence reaches into the end itself the text is periodic, and goes on as its period.
   */
  propose(count: number): number[] {
    const from = this.#continuation();
    if (from === null) return [];
    const ids = this.#ids;
    const proposed: number[] = [];
    for (let i = from; proposed.length < count; i++) proposed.push(i < ids.length ? ids[i]! : proposed[i - ids.length]!);
    return proposed;
  }

  /** Where the longest known run in which the text ends was followed, or `null`. */
  #continuation(): number | null {
    const { shortest, longest } = this.#bounds;
    const ids = this.#ids;
    for (let length = Math.min(longest, ids.length - 1); length >= shortest; length--) {
      const end = this.#ends[length - shortest]!.get(hash(ids, ids.length, length));
      // Two runs may have one hash.
      if (end !== undefined && this.#equal(end, length)) return end;
    }
    return null;
  }

  #remember(end: number): void {
    const { shortest, longest } = this.#bounds;
    for (let length = shortest; length <= Math.min(longest, end); length++)
      this.#ends[length - shortest]!.set(hash(this.#ids, end, length), end);
  }

  /** Whether the `length` ids before `end` are those before the text's end. */
  #equal(end: number, length: number): boolean {
    const ids = this.#ids;
    for (let i = 1; i <= length; i++) if (ids[end - i] !== ids[ids.length - i]) return false;
    return true;
  }
}

/** Of the `length` ids before `end`. */
function hash(ids: readonly number[], end: number, length: number): number {
  let value = 0x811c9dc5;
  for (let i = end - length; i < end; i++) value = Math.imul(value ^ ids[i]!, HASH_FACTOR);
  return value;
}
