// Byte-pair encoding's inner loop: of all neighbours that may merge, the pair with the lowest
// priority goes first, the leftmost among equals. A heap of candidates over a linked list of
// symbols makes that n log n for a text of n symbols, so a text need not be cut into words.
// SentencePiece ranks pairs by the score of what they become, tokenizer.json by the order of
// its merges: both are just priorities here.

import type { PairTable } from "./pair-table.js";

/**
 * Merges a list of symbols in place as far as the table goes.
 *
 * @param symbols ids; frozen ones are negative and never merge
 * @param merges pair → merged id, lowest priority first
 * @param onCandidate told of every pair that could merge: (left, right, merged)
 * @returns how many symbols remain at the front of `symbols`
 */
export function mergePairs(
  symbols: Int32Array,
  count: number,
  merges: PairTable,
  onCandidate?: (left: number, right: number, merged: number) => void,
): number {
  if (count < 2) return count;
  const next = new Int32Array(count);
  const previous = new Int32Array(count);
  for (let i = 0; i < count; i++) {
    next[i] = i + 1 < count ? i + 1 : -1;
    previous[i] = i - 1;
  }
  const queue = new CandidateQueue(count * 3);

  const offer = (at: number, after: number): void => {
    const left = symbols[at]!;
    const right = symbols[after]!;
    if (left < 0 || right < 0) return;
    const slot = merges.find(left, right);
    if (slot < 0) return;
    const merged = merges.value(slot);
    onCandidate?.(left, right, merged);
    queue.push(merges.priority(slot), at, after, left, right, merged);
  };

  for (let i = 0; i + 1 < count; i++) offer(i, i + 1);

  // A position whose symbol was swallowed holds GONE, so old candidates that name it do not match.
  const GONE = -0x80000000;
  for (let candidate = queue.pop(); candidate >= 0; candidate = queue.pop()) {
    const at = queue.at[candidate]!;
    const after = queue.after[candidate]!;
    if (symbols[at] !== queue.left[candidate] || symbols[after] !== queue.right[candidate] || next[at] !== after) continue;
    symbols[at] = queue.merged[candidate]!;
    symbols[after] = GONE;
    const beyond = next[after]!;
    next[at] = beyond;
    if (beyond >= 0) previous[beyond] = at;
    const before = previous[at]!;
    if (before >= 0) offer(before, at);
    if (beyond >= 0) offer(at, beyond);
  }

  let kept = 0;
  for (let i = 0; i >= 0; i = next[i]!) symbols[kept++] = symbols[i]!;
  return kept;
}

/** A binary heap of merge candidates, ordered by priority, then by place. Every candidate keeps its number for good. */
class CandidateQueue {
  readonly at: Int32Array;
  readonly after: Int32Array;
  readonly left: Int32Array;
  readonly right: Int32Array;
  readonly merged: Int32Array;
  readonly #priority: Float64Array;
  readonly #heap: Int32Array;
  #made = 0;
  #size = 0;

  /** @param most n symbols make at most n − 1 candidates, and each of at most n − 1 merges two more */
  constructor(most: number) {
    this.at = new Int32Array(most);
    this.after = new Int32Array(most);
    this.left = new Int32Array(most);
    this.right = new Int32Array(most);
    this.merged = new Int32Array(most);
    this.#priority = new Float64Array(most);
    this.#heap = new Int32Array(most);
  }

  push(priority: number, at: number, after: number, left: number, right: number, merged: number): void {
    const candidate = this.#made++;
    this.at[candidate] = at;
    this.after[candidate] = after;
    this.left[candidate] = left;
    this.right[candidate] = right;
    this.merged[candidate] = merged;
    this.#priority[candidate] = priority;
    const heap = this.#heap;
    let place = this.#size++;
    while (place > 0) {
      const parent = (place - 1) >> 1;
      if (!this.#before(candidate, heap[parent]!)) break;
      heap[place] = heap[parent]!;
      place = parent;
    }
    heap[place] = candidate;
  }

  /** Number of the first candidate, or −1. */
  pop(): number {
    if (this.#size === 0) return -1;
    const heap = this.#heap;
    const top = heap[0]!;
    const last = heap[--this.#size]!;
    const size = this.#size;
    let place = 0;
    for (let child = 1; child < size; child = 2 * place + 1) {
      if (child + 1 < size && this.#before(heap[child + 1]!, heap[child]!)) child++;
      if (!this.#before(heap[child]!, last)) break;
      heap[place] = heap[child]!;
      place = child;
    }
    heap[place] = last;
    return top;
  }

  #before(a: number, b: number): boolean {
    const difference = this.#priority[a]! - this.#priority[b]!;
    return difference !== 0 ? difference < 0 : this.at[a]! < this.at[b]!;
  }
}
