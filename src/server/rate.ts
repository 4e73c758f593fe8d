// How many of something there were per second lately: counts by second, over a short window.

/** Seconds that are looked back on. */
const WINDOW = 10;

export class Rate {
  readonly #counts = new Float64Array(WINDOW);
  /** The second of the newest count, since `performance.timeOrigin`. */
  #newest = 0;

  add(count: number, now = performance.now()): void {
    this.#forget(now);
    this.#counts[this.#newest % WINDOW]! += count;
  }

  /** Mean over the window, the second that has not ended yet included. */
  perSecond(now = performance.now()): number {
    this.#forget(now);
    return this.#counts.reduce((sum, count) => sum + count, 0) / WINDOW;
  }

  /** Empties the seconds that have passed since the newest count. */
  #forget(now: number): void {
    const second = Math.floor(now / 1000);
    for (let at = Math.max(this.#newest + 1, second - WINDOW + 1); at <= second; at++) this.#counts[at % WINDOW] = 0;
    this.#newest = Math.max(this.#newest, second);
  }
}
