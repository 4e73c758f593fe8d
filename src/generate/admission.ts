// Whether a request may begin: a place for each of its strands, and pages. Where requests wait,
// all that one can come to need is set aside for it; where they are preempted, what it has now
// must fit beside what the running ones are still to take for theirs.

import { NoRoomError, TooManySequencesError } from "./errors.js";
import type { Job } from "./job.js";
import type { KvCache } from "./kv-cache.js";
import type { Place } from "./place.js";
import type { PressureOptions } from "./scheduler-options.js";

/**
 * With "preempt" a request begins only where a page is left over for every so many running
 * sequences, which will grow. In simulations of short and long requests this halves what has to
 * be computed again, and costs 1 to 3 % more steps.
 */
const SEQUENCES_PER_SPARE_PAGE = 8;

export class Admission {
  readonly #cache: KvCache;
  readonly #maxSequences: number;
  readonly #onPressure: PressureOptions["onPressure"];

  constructor(cache: KvCache, maxSequences: number, onPressure: PressureOptions["onPressure"]) {
    this.#cache = cache;
    this.#maxSequences = maxSequences;
    this.#onPressure = onPressure;
  }

  /** @throws {CacheTooSmallError}, {@link TooManySequencesError} when it could not run even alone */
  check(job: Job): void {
    if (job.width > this.#maxSequences) throw new TooManySequencesError(job.width, this.#maxSequences);
    this.#cache.checkFits(job);
  }

  /** Sets pages aside for a request and returns how many, per group; `null` while there is no room for it. */
  reserve(place: Place, running: readonly Place[]): readonly number[] | null {
    const { job } = place;
    if (placesTaken(running) + job.width > this.#maxSequences) return null;
    if (this.#onPressure === "preempt") return this.#fitsNow(place, running) ? [] : null;
    const pages = this.#cache.demand(job);
    return this.#cache.reserve(pages) ? pages : null;
  }

  /** Why {@link reserve} found no room. */
  refusal(job: Job, running: readonly Place[]): NoRoomError {
    const maxSequences = this.#maxSequences;
    const places = placesTaken(running);
    if (places + job.width > maxSequences)
      return new NoRoomError(`${places} of ${maxSequences} sequences are running`, { running: places, maxSequences });
    const [needed, reserved, total] = [this.#cache.demand(job), this.#cache.reservedPages, this.#cache.totalPages];
    const g = needed.findIndex((pages, i) => reserved[i]! + pages > total[i]!);
    return new NoRoomError(`it needs ${needed[g]} KV pages, and ${reserved[g]} of ${total[g]} are set aside for others`, {
      neededPages: needed[g],
      reservedPages: reserved[g],
      pages: total[g],
    });
  }

  /** Whether there are pages for all ids that it has and one more. */
  #fitsNow({ job, sequences }: Place, running: readonly Place[]): boolean {
    const wanted = sequences.map((sequence) =>
      this.#cache.neededFor(sequence.request, Math.min(job.positions, sequence.ids.length + 1)),
    );
    const owed = running.flatMap((place) => place.sequences.map((sequence) => sequence.owedPages));
    const [free, idle] = [this.#cache.freePages, this.#cache.idlePages];
    const most = this.#cache.demand(job); // its strands may share some of those pages
    const spare = Math.floor(owed.length / SEQUENCES_PER_SPARE_PAGE);
    return free.every((pages, g) => Math.min(most[g]!, sumOf(wanted, g)) + sumOf(owed, g) + spare <= pages + idle[g]!);
  }
}

function placesTaken(running: readonly Place[]): number {
  return running.reduce((sum, { job }) => sum + job.width, 0);
}

function sumOf(pages: readonly (readonly number[])[], group: number): number {
  return pages.reduce((sum, counts) => sum + counts[group]!, 0);
}
