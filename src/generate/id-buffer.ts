// A list of ids that grows at its end, can be cut short there, and can be handed on as Int32Array
// without copying.

export class IdBuffer {
  #ids: Int32Array;
  #length: number;

  constructor(ids: ArrayLike<number>) {
    this.#ids = new Int32Array(ids.length + 64);
    this.#ids.set(ids);
    this.#length = ids.length;
  }

  get length(): number {
    return this.#length;
  }

  push(id: number): void {
    if (this.#length === this.#ids.length) {
      const grown = new Int32Array(2 * this.#length);
      grown.set(this.#ids);
      this.#ids = grown;
    }
    this.#ids[this.#length++] = id;
  }

  truncate(length: number): void {
    this.#length = Math.min(this.#length, length);
  }

  /** Ids from `start` to `end − 1`. They stay as they are until the list is cut short before `end`. */
  view(start: number, end: number): Int32Array {
    return this.#ids.subarray(start, end);
  }
}
