// Runs jobs on a runtime, one step at a time. Requests wait until places (maxSequences) and KV
// pages are free; running ones share the steps. A job leaves as soon as it is complete,
// cancelled or has failed, and its pages with it.
//
// What happens when memory is short is chosen at loading. "wait": a request begins when all that
// it can come to need is set aside, and is never short of a page after that. "preempt": it
// begins when there is room for what it has now; when pages run out, the youngest gives its
// pages back and is computed again later, its answer going on as if nothing had happened.
// "refuse": as "wait", but a request that cannot begin at once ends with an error.

import { setImmediate as nextTurn } from "node:timers/promises";
import type { Output, PageCopy, Runtime } from "../backend/backend.js";
import { PAGE_TOKENS } from "../memory/plan.js";
import { type BatchPart, composeBatch } from "./batch.js";
import { CacheTooSmallError, NoRoomError, QueueFullError, SchedulerClosedError, TooManySequencesError } from "./errors.js";
import type { Job } from "./job.js";
import { KvCache } from "./kv-cache.js";
import { type AnsweredPart, Place } from "./place.js";
import type { PressureOptions } from "./scheduler-options.js";
import type { Sequence } from "./sequence.js";
import { WaitingPlaces } from "./waiting-places.js";

/** A job's place in the scheduler. */
export interface Ticket {
  /**
   * Settles when the job holds nothing any more: resolves when it is complete or was cancelled,
   * rejects with what made it fail.
   */
  readonly done: Promise<void>;
  /** Ends the job, after the step that it may be in; resolves when its pages are free. */
  cancel(): Promise<void>;
  /** The job is no longer paused. */
  resume(): void;
}

export interface SchedulerOptions extends PressureOptions {
  /** Awaited before each step is composed: may append to strands (speculation). No job leaves meanwhile. */
  readonly propose?: (() => Promise<void>) | undefined;
}

/** What the scheduler is doing, for people and tests. */
export interface SchedulerLoad {
  readonly waiting: number;
  readonly running: number;
  /** Finished sequences whose KV is kept for reuse. */
  readonly idle: number;
  /** Per cache group: pages that nobody holds, and pages reserved by running sequences. */
  readonly freePages: readonly number[];
  readonly reservedPages: readonly number[];
  /** Per cache group: pages that are kept for reuse only, and give way when others need them. */
  readonly idlePages: readonly number[];
  /** Per cache group: pages of the plan. */
  readonly totalPages: readonly number[];
}

/** What the scheduler has done since it began. */
export interface SchedulerCounters {
  readonly steps: number;
  /** Prompt tokens computed; recomputed ones count again. */
  readonly promptTokens: number;
  readonly generatedTokens: number;
  /** Prompt tokens whose KV was there already. */
  readonly reusedTokens: number;
  /** Times that a running request gave its pages back to others. */
  readonly preemptions: number;
}

/**
 * With "preempt" a request begins only where a page is left over for every so many running
 * sequences, which will grow. In simulations of short and long requests this halves what has to
 * be computed again, and costs 1 to 3 % more steps.
 */
const SEQUENCES_PER_SPARE_PAGE = 8;

/** A strand's part of a step. */
interface Part extends BatchPart {
  readonly place: Place;
}

export class Scheduler {
  readonly runtime: Runtime;
  readonly #options: SchedulerOptions;
  readonly #cache: KvCache;
  readonly #waiting = new WaitingPlaces();
  /** In the order of their requests. */
  readonly #running: Place[] = [];
  /** The loop, while there is something to do. */
  #loop: Promise<void> | null = null;
  /** Their strands are in use now: they leave after the step. */
  #busy: ReadonlySet<Place> = new Set();
  #closed = false;
  #lastOrder = 0;
  readonly #counters = { steps: 0, promptTokens: 0, generatedTokens: 0, reusedTokens: 0, preemptions: 0 };

  constructor(runtime: Runtime, options: SchedulerOptions = {}) {
    this.runtime = runtime;
    this.#options = options;
    this.#cache = new KvCache(runtime.plan.cacheGroups, runtime.spec.rope);
  }

  get load(): SchedulerLoad {
    return {
      waiting: this.#waiting.size,
      running: this.#running.length,
      idle: this.#cache.idleSequences,
      freePages: this.#cache.freePages,
      reservedPages: this.#cache.reservedPages,
      idlePages: this.#cache.idlePages,
      totalPages: this.#cache.totalPages,
    };
  }

  get counters(): SchedulerCounters {
    return { ...this.#counters };
  }

  /** Longest sequence that can run: the plan's context, or what the KV pool holds if that is less. */
  get longestSequence(): number {
    return this.longestOf({ width: 1, shared: 0 });
  }

  /** The same for each strand of a job. */
  longestOf(demand: Pick<Job, "width" | "shared" | "apart">): number {
    return Math.min(this.runtime.plan.run.context, this.#cache.largestOf(demand));
  }

  /**
   * Queues a job.
   *
   * @throws {CacheTooSmallError}, {@link TooManySequencesError} when it could not run even alone
   * @throws {QueueFullError} when as many wait as may; {@link NoRoomError} where nothing waits and it cannot begin now
   * @throws {SchedulerClosedError} after {@link close}
   */
  submit(job: Job): Ticket {
    if (this.#closed) throw new SchedulerClosedError();
    const { maxSequences } = this.runtime.plan.run;
    if (job.width > maxSequences) throw new TooManySequencesError(job.width, maxSequences);
    this.#cache.checkFits(job);
    const place = new Place(job, ++this.#lastOrder, this.#cache);
    if (this.#options.onPressure === "refuse") this.#beginOrRefuse(place);
    else this.#queue(place);
    this.#wake();
    return { done: place.done, cancel: () => this.#cancel(place), resume: () => this.#wake() };
  }

  /** Resolves when there is nothing to step: every job is over, paused, or waits for room. */
  async settled(): Promise<void> {
    while (this.#loop) await this.#loop;
  }

  /** Forgets the KV of finished sequences. */
  clearIdle(): void {
    this.#cache.clear();
  }

  /** Ends all jobs with {@link SchedulerClosedError}; resolves when no step runs any more. Idempotent. */
  async close(): Promise<void> {
    this.#closed = true;
    for (const place of this.#waiting.clear()) place.fail(new SchedulerClosedError());
    await this.#loop;
    for (const place of [...this.#running]) this.#fail(place, new SchedulerClosedError());
    this.#cache.clear();
  }

  async #cancel(place: Place): Promise<void> {
    place.cancelled = true;
    if (this.#waiting.remove(place)) place.leave();
    else if (this.#running.includes(place) && !this.#busy.has(place)) this.#leave(place);
    this.#wake(); // its room may be another's
    await place.done.catch(() => {});
  }

  #queue(place: Place): void {
    const { maxWaiting = Number.POSITIVE_INFINITY } = this.#options;
    // Whom the next step takes along does not wait: so many may come at once as there is room for.
    if (this.#waiting.newcomers >= maxWaiting) {
      this.#admit();
      if (this.#waiting.size === 0 && this.#begin(place)) return;
      if (this.#waiting.newcomers >= maxWaiting) throw new QueueFullError(this.#waiting.newcomers, maxWaiting);
    }
    this.#waiting.add(place);
  }

  #beginOrRefuse(place: Place): void {
    if (this.#begin(place)) return;
    const { maxSequences } = this.runtime.plan.run;
    const places = this.#placesTaken;
    if (places + place.job.width > maxSequences)
      throw new NoRoomError(`${places} of ${maxSequences} sequences are running`, { running: places, maxSequences });
    const [needed, reserved, total] = [this.#cache.demand(place.job), this.#cache.reservedPages, this.#cache.totalPages];
    const g = needed.findIndex((pages, i) => reserved[i]! + pages > total[i]!);
    throw new NoRoomError(`it needs ${needed[g]} KV pages, and ${reserved[g]} of ${total[g]} are set aside for others`, {
      neededPages: needed[g],
      reservedPages: reserved[g],
      pages: total[g],
    });
  }

  #wake(): void {
    if (this.#loop || this.#closed) return;
    // After the caller's turn: requests made together begin together.
    this.#loop = Promise.resolve().then(() => this.#run());
  }

  async #run(): Promise<void> {
    try {
      while (!this.#closed) {
        await this.#propose();
        this.#admit();
        const batch = this.#compose();
        if (batch.length === 0) break;
        await this.#step(batch);
        await nextTurn(); // cancellations and new requests are read between steps, whatever the backend does
      }
    } catch (error) {
      // Not a failed step, those are handled: a defect here must not leave anybody waiting.
      for (const place of [...this.#running]) this.#fail(place, error);
      for (const place of this.#waiting.clear()) place.fail(error);
    } finally {
      this.#loop = null;
    }
  }

  #admit(): void {
    this.#waiting.admit((place) => this.#begin(place));
  }

  get #placesTaken(): number {
    return this.#running.reduce((sum, { job }) => sum + job.width, 0);
  }

  /** Begins a job, or says false while there is no room for it. */
  #begin(place: Place): boolean {
    const { job } = place;
    if (this.#placesTaken + job.width > this.runtime.plan.run.maxSequences) return false;
    if (this.#options.onPressure === "preempt") {
      if (!this.#fitsNow(place)) return false;
      place.reserved = [];
    } else {
      const pages = this.#cache.demand(job);
      if (!this.#cache.reserve(pages)) return false;
      place.reserved = pages;
    }
    const after = this.#running.findIndex(({ order }) => order > place.order);
    this.#running.splice(after < 0 ? this.#running.length : after, 0, place);
    this.#counters.reusedTokens += place.begin();
    return true;
  }

  /** Whether there are pages for all ids that it has and one more, beside what the running ones are still to take for theirs. */
  #fitsNow(place: Place): boolean {
    const wanted = place.sequences.map((sequence) =>
      this.#cache.neededFor(sequence.request, Math.min(place.job.positions, sequence.ids.length + 1)),
    );
    const owed = this.#running.flatMap(({ sequences }) => sequences.map((sequence) => sequence.owedPages));
    const [free, idle] = [this.#cache.freePages, this.#cache.idlePages];
    const most = this.#cache.demand(place.job); // its strands may share some of those pages
    const spare = Math.floor(owed.length / SEQUENCES_PER_SPARE_PAGE);
    return free.every((pages, g) => Math.min(most[g]!, sumOf(wanted, g)) + sumOf(owed, g) + spare <= pages + idle[g]!);
  }

  async #propose(): Promise<void> {
    if (!this.#options.propose || this.#running.length === 0) return;
    this.#busy = new Set(this.#running);
    try {
      await this.#options.propose();
    } finally {
      this.#busy = new Set();
    }
    this.#sweep();
  }

  #compose(): Part[] {
    const placeOf = new Map<Sequence, Place>();
    for (const place of this.#running) {
      for (const sequence of place.sequences) {
        placeOf.set(sequence, place);
        if (sequence.remaining > 0 && !place.job.paused) this.#counters.reusedTokens += sequence.follow();
      }
    }
    const batch = composeBatch([...placeOf.keys()], this.runtime.plan.run.prefillChunk);
    return batch.map((part) => ({ ...part, place: placeOf.get(part.sequence)! }));
  }

  async #step(batch: readonly Part[]): Promise<void> {
    const { parts, copies } = this.#prepare(batch);
    this.#busy = new Set(this.#running);
    try {
      if (copies.length > 0) await this.runtime.copyPages(copies);
      if (parts.length > 0) await this.#runParts(parts);
    } finally {
      this.#busy = new Set();
    }
    this.#sweep();
  }

  /** Takes the pages of a step, the oldest request's first; where they run out, the youngest gives its own back. */
  #prepare(batch: readonly Part[]): { parts: Part[]; copies: PageCopy[] } {
    const copies: PageCopy[] = [];
    for (const { place, sequence, end } of batch.toSorted((a, b) => a.place.order - b.place.order)) {
      let copied: PageCopy[] | null = null;
      while (place.running && !copied) {
        copied = sequence.prepare(end);
        if (!copied) this.#preemptYoungest();
      }
      // Also of those who give way after all: what they keep for later is in the copies.
      copies.push(...(copied ?? []));
    }
    return { parts: batch.filter(({ place }) => place.running), copies };
  }

  #preemptYoungest(): void {
    const youngest = this.#running.at(-1)!;
    if (this.#running.length === 1) {
      // Its strands shared more when its demand was reckoned than they do now.
      const [needed, total] = [this.#cache.demand(youngest.job), this.#cache.totalPages];
      this.#fail(
        youngest,
        new CacheTooSmallError(youngest.job.positions, needed[0]!, total[0]!, PAGE_TOKENS, youngest.job.width),
      );
      return;
    }
    this.#counters.preemptions += 1;
    this.#remove(youngest);
    youngest.giveWay();
    this.#waiting.addPreempted(youngest);
  }

  /**
   * A step fails as a whole, though the reason may lie in one request (nothing left to sample,
   * NaN from its prompt). A step only depends on its batch and the pages, so each part is tried
   * again alone, and only those that fail alone end.
   */
  async #runParts(parts: readonly Part[]): Promise<void> {
    let outputs: Output[][];
    try {
      outputs = await this.runtime.step(parts.map(({ sequence, end }) => sequence.entry(end)));
    } catch (error) {
      if (parts.length === 1) this.#fail(parts[0]!.place, error);
      else for (const part of parts) if (part.place.running) await this.#runParts([part]);
      return;
    }
    this.#counters.steps += 1;
    const answered = new Map<Place, AnsweredPart[]>();
    for (const [i, { place, sequence, end }] of parts.entries()) {
      this.#counters.promptTokens += Math.max(0, Math.min(end, sequence.promptLength) - sequence.fed);
      const all = answered.get(place);
      const part = { sequence, end, outputs: outputs[i]! };
      if (all) all.push(part);
      else answered.set(place, [part]);
    }
    for (const [place, all] of answered) this.#advance(place, all);
  }

  #advance(place: Place, parts: readonly AnsweredPart[]): void {
    try {
      place.advance(parts);
    } catch (error) {
      this.#fail(place, error);
    }
    this.#counters.generatedTokens += place.job.generated - place.counted;
    place.counted = place.job.generated;
  }

  #sweep(): void {
    for (const place of [...this.#running]) if (place.cancelled || place.complete) this.#leave(place);
  }

  #leave(place: Place): void {
    this.#remove(place);
    place.leave();
  }

  #fail(place: Place, error: unknown): void {
    this.#remove(place);
    place.fail(error);
  }

  #remove(place: Place): void {
    this.#running.splice(this.#running.indexOf(place), 1);
    if (place.reserved) this.#cache.unreserve(place.reserved);
    place.reserved = null;
  }
}

function sumOf(pages: readonly (readonly number[])[], group: number): number {
  return pages.reduce((sum, counts) => sum + counts[group]!, 0);
}
