// What a thread does while it waits for the others: it reads the first weights of the linears
// that come next, so that they are in its own cache when the wait is over. Decoding is bound by
// memory, which would otherwise lie idle whenever one thread normalises, rounds or finishes last.

import type { FloatKernels } from "./kernels.js";

/** Most bytes read ahead of one group of linears: a quarter of a large core's second-level cache. */
const MOST_BYTES = 512 * 1024;
/** Bytes between two looks at whether the wait is over: a tenth of a microsecond's reading. */
const STRIDE = 2048;

export class NextWeights {
  #kernels: FloatKernels | null = null;
  #at = 0;
  #end = 0;

  /** From now on waiting reads bytes from … to − 1, or the first of them, of the arena of `kernels`. */
  aim(kernels: FloatKernels, from: number, to: number): void {
    this.#kernels = kernels;
    this.#at = from;
    this.#end = Math.min(to, from + MOST_BYTES);
  }

  /** Waiting reads nothing. */
  clear(): void {
    this.#end = this.#at;
  }

  /** Reads a little; false when there is nothing left to read. */
  read(): boolean {
    if (this.#at >= this.#end) return false;
    this.#kernels!.touch_lines(this.#at, Math.min(STRIDE, this.#end - this.#at));
    this.#at += STRIDE;
    return true;
  }
}
