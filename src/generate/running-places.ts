// The jobs that run, in the order of their requests, each with what it has set aside in the cache.

import type { KvCache } from "./kv-cache.js";
import type { Place } from "./place.js";

export class RunningPlaces {
  readonly #cache: KvCache;
  readonly #places: Place[] = [];

  constructor(cache: KvCache) {
    this.#cache = cache;
  }

  /** In the order of their requests. */
  get all(): readonly Place[] {
    return this.#places;
  }

  get size(): number {
    return this.#places.length;
  }

  get youngest(): Place | undefined {
    return this.#places.at(-1);
  }

  /**
   * A job begins, or goes on after it had to give way.
   *
   * @param reserved pages set aside for it
   * @returns how many positions of it were in the cache already
   */
  begin(place: Place, reserved: readonly number[]): number {
    place.reserved = reserved;
    const after = this.#places.findIndex(({ order }) => order > place.order);
    this.#places.splice(after < 0 ? this.#places.length : after, 0, place);
    return place.begin();
  }

  /** Those that are complete or cancelled leave. */
  sweep(): void {
    for (const place of [...this.#places]) if (place.cancelled || place.complete) this.leave(place);
  }

  leave(place: Place): void {
    this.remove(place);
    place.leave();
  }

  fail(place: Place, error: unknown): void {
    this.remove(place);
    place.fail(error);
  }

  failAll(error: unknown): void {
    for (const place of [...this.#places]) this.fail(place, error);
  }

  /** It does not run any more; what it holds is its own matter. */
  remove(place: Place): void {
    this.#places.splice(this.#places.indexOf(place), 1);
    if (place.reserved) this.#cache.unreserve(place.reserved);
    place.reserved = null;
  }
}
