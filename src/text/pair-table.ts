// A map from pairs of small whole numbers to a number and a priority, without an object per
// entry: a vocabulary of 128,000 pieces has some 300,000 merges, and encoding asks for
// several pairs per character. Open addressing over typed arrays.

const EMPTY = -1;

export class PairTable {
  #left: Int32Array;
  #right: Int32Array;
  #value: Int32Array;
  #priority: Float64Array;
  #mask: number;
  #size = 0;

  /** @param expected entries that will come; more are taken, at the cost of growing */
  constructor(expected: number) {
    let capacity = 16;
    while (capacity < expected * 2) capacity *= 2;
    this.#mask = capacity - 1;
    this.#left = new Int32Array(capacity).fill(EMPTY);
    this.#right = new Int32Array(capacity);
    this.#value = new Int32Array(capacity);
    this.#priority = new Float64Array(capacity);
  }

  get size(): number {
    return this.#size;
  }

  /** Slot of the pair, or −1. Slots are good until the next `add`. */
  find(left: number, right: number): number {
    for (let slot = this.#start(left, right); ; slot = (slot + 1) & this.#mask) {
      const l = this.#left[slot];
      if (l === EMPTY) return -1;
      if (l === left && this.#right[slot] === right) return slot;
    }
  }

  value(slot: number): number {
    return this.#value[slot]!;
  }

  priority(slot: number): number {
    return this.#priority[slot]!;
  }

  /** Adds a pair that is not there yet; one that is there stays as it is. */
  add(left: number, right: number, value: number, priority = 0): void {
    if (this.#size * 2 > this.#mask) this.#grow();
    let slot = this.#start(left, right);
    while (this.#left[slot] !== EMPTY) {
      if (this.#left[slot] === left && this.#right[slot] === right) return;
      slot = (slot + 1) & this.#mask;
    }
    this.#left[slot] = left;
    this.#right[slot] = right;
    this.#value[slot] = value;
    this.#priority[slot] = priority;
    this.#size++;
  }

  #start(left: number, right: number): number {
    let hash = Math.imul(left, 0x9e3779b1) ^ Math.imul(right, 0x85ebca6b);
    hash ^= hash >>> 15;
    return (Math.imul(hash, 0x2c1b3c6d) >>> 7) & this.#mask;
  }

  #grow(): void {
    const bigger = new PairTable(this.#mask + 1);
    for (let slot = 0; slot <= this.#mask; slot++)
      if (this.#left[slot] !== EMPTY)
        bigger.add(this.#left[slot]!, this.#right[slot]!, this.#value[slot]!, this.#priority[slot]!);
    this.#left = bigger.#left;
    this.#right = bigger.#right;
    this.#value = bigger.#value;
    this.#priority = bigger.#priority;
    this.#mask = bigger.#mask;
  }
}
