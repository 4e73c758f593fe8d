// The words of a step, read: which rows there are, at which positions, on which pages.

import { ENTRY_WORDS, OUTPUT_WORDS, type StepWords } from "./step-message.js";

/** A view of the control block; what it says changes with every step. */
export class Step {
  readonly #words: Int32Array;
  readonly #at: StepWords;
  /** Entry of each row, filled by begin(). */
  readonly #entryOfRow: Int32Array;
  readonly #adapterWeights: Float32Array;
  rows = 0;
  entries = 0;
  outputs = 0;
  task = 0;
  /** Every entry feeds exactly one token. */
  oneRowEach = false;
  /** An entry uses an adapter. */
  adapted = false;

  constructor(words: Int32Array, at: StepWords) {
    this.#words = words;
    this.#at = at;
    this.#entryOfRow = new Int32Array(at.entryTable - at.ids);
    this.#adapterWeights = new Float32Array(words.buffer, words.byteOffset, at.bytes / 4).subarray(at.adapterTable);
  }

  /** Reads what the present command is about. */
  begin(): void {
    const words = this.#words;
    this.task = words[this.#at.task]!;
    this.rows = words[this.#at.rows]!;
    this.entries = words[this.#at.entries]!;
    this.outputs = words[this.#at.outputs]!;
    this.oneRowEach = this.rows === this.entries;
    this.adapted = words[this.#at.adapted] === 1;
    for (let entry = 0; entry < this.entries; entry++) {
      const first = this.firstRowOf(entry);
      this.#entryOfRow.fill(entry, first, first + this.rowsOf(entry));
    }
  }

  id(row: number): number {
    return this.#words[this.#at.ids + row]!;
  }

  entryOf(row: number): number {
    return this.#entryOfRow[row]!;
  }

  position(row: number): number {
    const entry = this.entryOf(row);
    return this.startOf(entry) + row - this.firstRowOf(entry);
  }

  firstRowOf(entry: number): number {
    return this.#words[this.#at.entryTable + entry * ENTRY_WORDS]!;
  }

  rowsOf(entry: number): number {
    return this.#words[this.#at.entryTable + entry * ENTRY_WORDS + 1]!;
  }

  startOf(entry: number): number {
    return this.#words[this.#at.entryTable + entry * ENTRY_WORDS + 2]!;
  }

  /** Physical page of a logical one. */
  page(entry: number, group: number, page: number): number {
    const { groups, pages, pageTable } = this.#at;
    return this.#words[pageTable + (entry * groups + group) * pages + page]!;
  }

  /** 0 where the entry does not use the adapter. */
  adapterWeight(entry: number, adapter: number): number {
    return this.#adapterWeights[entry * this.#at.adapters + adapter]!;
  }

  outputRow(output: number): number {
    return this.#words[this.#at.outputTable + output * OUTPUT_WORDS]!;
  }

  /** Token whose logit is wanted, or −1. */
  outputTarget(output: number): number {
    return this.#words[this.#at.outputTable + output * OUTPUT_WORDS + 1]!;
  }

  /** Whether the row's log-softmax sums are wanted. */
  outputSums(output: number): boolean {
    return this.#words[this.#at.outputTable + output * OUTPUT_WORDS + 2] === 1;
  }
}
