// Requests that wait for their turn. Those that had to give their pages back come first; then
// requests in the order in which they came. One that fits may go before an earlier one that
// does not, but no request is overtaken more than some times: then all wait for it.

import type { Place } from "./place.js";

/** So many later requests may begin before one. */
const MOST_OVERTAKINGS = 16;

/** So many waiting requests are looked at in one step. */
const MOST_LOOKED_AT = 8;

export class WaitingPlaces {
  /** Oldest first. */
  readonly #preempted: Place[] = [];
  readonly #new = new Set<Place>();

  get size(): number {
    return this.#preempted.length + this.#new.size;
  }

  /** Those that have never run. */
  get newcomers(): number {
    return this.#new.size;
  }

  add(place: Place): void {
    this.#new.add(place);
  }

  /** A running one that has to wait again. */
  addPreempted(place: Place): void {
    const after = this.#preempted.findIndex(({ order }) => order > place.order);
    this.#preempted.splice(after < 0 ? this.#preempted.length : after, 0, place);
  }

  /** Says whether it was waiting. */
  remove(place: Place): boolean {
    const at = this.#preempted.indexOf(place);
    if (at >= 0) this.#preempted.splice(at, 1);
    return at >= 0 || this.#new.delete(place);
  }

  /** All of them, taken out. */
  clear(): Place[] {
    const all = [...this.#preempted.splice(0), ...this.#new];
    this.#new.clear();
    return all;
  }

  /**
   * Takes out those that may begin, in turn.
   *
   * @param begin begins one, or says false where it does not fit now
   */
  admit(begin: (place: Place) => boolean): void {
    // One that nobody reads would only hold its pages; it comes back when somebody does.
    for (const place of this.#preempted.filter(({ job }) => !job.paused)) {
      if (!begin(place)) return;
      this.remove(place);
    }
    const passed: Place[] = [];
    for (const place of this.#new) {
      if (passed.length >= MOST_LOOKED_AT || passed.some(({ overtaken }) => overtaken >= MOST_OVERTAKINGS)) return;
      if (begin(place)) {
        this.#new.delete(place);
        for (const earlier of passed) earlier.overtaken++;
      } else passed.push(place);
    }
  }
}
