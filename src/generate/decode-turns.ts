// Sequences that decode may be a few more than a step takes well: kernels are made for so many rows, and one
// row more can cost half as much again, so that all together would get on slower than without it. Then
// some rest for a turn of steps while the others go on, each as often as any other. A turn is some steps
// long since the same rows, step after step, are what a backend can queue ahead.

import type { BatchPart } from "./batch.js";
import type { Sequence } from "./sequence.js";

/** Steps for which the same ones rest. */
export const TURN_STEPS = 16;

export class DecodeTurns {
  readonly #rowsAtOnce: (sequences: number) => number;
  /** Turns that each has rested. */
  readonly #rested = new WeakMap<Sequence, number>();
  #resting: ReadonlySet<Sequence> = new Set();
  /** Steps of this turn that are to come. */
  #left = 0;

  /** @param rowsAtOnce of so many sequences that each decode a token, how many a step should take, see Runtime */
  constructor(rowsAtOnce: (sequences: number) => number) {
    this.#rowsAtOnce = rowsAtOnce;
  }

  /** The parts of a step that go into it: all of them, unless they are decoding ones alone and a few too many. */
  take<Part extends BatchPart>(parts: readonly Part[]): readonly Part[] {
    const surplus = parts.every(decodesOne) ? parts.length - this.#rowsAtOnce(parts.length) : 0;
    // Strands of one job go together.
    const candidates = parts.map(({ sequence }) => sequence).filter(({ job }) => job.width === 1);
    if (surplus <= 0 || surplus > candidates.length) return parts;
    const resting = candidates.filter((sequence) => this.#resting.has(sequence));
    if (this.#left === 0 || resting.length !== surplus) this.#begin(candidates, surplus);
    this.#left -= 1;
    return parts.filter(({ sequence }) => !this.#resting.has(sequence));
  }

  /** Those rest that have rested least; whoever has just come is not behind. */
  #begin(candidates: readonly Sequence[], count: number): void {
    const most = Math.max(...candidates.map((sequence) => this.#rested.get(sequence) ?? 0));
    const turns = (sequence: Sequence) => this.#rested.get(sequence) ?? most;
    for (const sequence of candidates) this.#rested.set(sequence, turns(sequence));
    const resting = candidates.toSorted((a, b) => turns(a) - turns(b)).slice(0, count);
    for (const sequence of resting) this.#rested.set(sequence, turns(sequence) + 1);
    this.#resting = new Set(resting);
    this.#left = TURN_STEPS;
  }
}

function decodesOne({ sequence, end }: BatchPart): boolean {
  return sequence.decoding && end - sequence.fed === 1;
}
