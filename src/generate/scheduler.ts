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
import { Admission } from "./admission.js";
import { type BatchPart, composeBatch } from "./batch.js";
import { DecodeTurns } from "./decode-turns.js";
import { CacheTooSmallError, QueueFullError, SchedulerClosedError } from "./errors.js";
import type { Job } from "./job.js";
import { KvCache } from "./kv-cache.js";
import { type AnsweredPart, Place } from "./place.js";
import { RunningPlaces } from "./running-places.js";
import type { PressureOptions } from "./scheduler-options.js";
import type { SchedulerCounters, SchedulerLoad } from "./scheduler-status.js";
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

/** A strand's part of a step. */
interface Part extends BatchPart {
  readonly place: Place;
}

export class Scheduler {
  readonly runtime: Runtime;
  readonly #options: SchedulerOptions;
  readonly #cache: KvCache;
  readonly #admission: Admission;
  readonly #waiting = new WaitingPlaces();
  readonly #running: RunningPlaces;
  readonly #turns: DecodeTurns;
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
    this.#running = new RunningPlaces(this.#cache);
    this.#turns = new DecodeTurns(runtime.rowsAtOnce ?? ((sequences) => sequences));
    this.#admission = new Admission(this.#cache, runtime.plan.run.maxSequences, options.onPressure);
  }

  get load(): SchedulerLoad {
    return {
      waiting: this.#waiting.size,
      running: this.#running.size,
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
    this.#admission.check(job);
    const place = new Place(job, ++this.#lastOrder, this.#cache);
    if (this.#options.onPressure !== "refuse") this.#queue(place);
    else if (!this.#begin(place)) throw this.#admission.refusal(job, this.#running.all);
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
    this.#running.failAll(new SchedulerClosedError());
    this.#cache.clear();
  }

  async #cancel(place: Place): Promise<void> {
    place.cancelled = true;
    if (this.#waiting.remove(place)) place.leave();
    else if (place.running && !this.#busy.has(place)) this.#running.leave(place);
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
      this.#running.failAll(error);
      for (const place of this.#waiting.clear()) place.fail(error);
    } finally {
      this.#loop = null;
    }
  }

  #admit(): void {
    this.#waiting.admit((place) => this.#begin(place));
  }

  /** Begins a job, or says false while there is no room for it. */
  #begin(place: Place): boolean {
    const reserved = this.#admission.reserve(place, this.#running.all);
    if (!reserved) return false;
    this.#counters.reusedTokens += this.#running.begin(place, reserved);
    return true;
  }

  async #propose(): Promise<void> {
    if (!this.#options.propose || this.#running.size === 0) return;
    this.#busy = new Set(this.#running.all);
    try {
      await this.#options.propose();
    } finally {
      this.#busy = new Set();
    }
    this.#running.sweep();
  }

  #compose(): Part[] {
    const placeOf = new Map<Sequence, Place>();
    const firstOf = new Map<number, Sequence>();
    for (const place of this.#running.all) {
      for (const sequence of place.sequences) {
        placeOf.set(sequence, place);
        if (sequence.remaining > 0 && !place.job.paused) this.#counters.reusedTokens += sequence.follow();
        const { tailKey } = sequence;
        const first = tailKey === null ? undefined : firstOf.get(tailKey);
        if (first) this.#counters.reusedTokens += sequence.adopt(first);
        else if (tailKey !== null) firstOf.set(tailKey, sequence);
      }
    }
    const batch = this.#turns.take(composeBatch([...placeOf.keys()], this.runtime.plan.run.prefillChunk));
    return batch.map((part) => ({ ...part, place: placeOf.get(part.sequence)! }));
  }

  async #step(batch: readonly Part[]): Promise<void> {
    const { parts, copies } = this.#prepare(batch);
    this.#busy = new Set(this.#running.all);
    try {
      if (copies.length > 0) await this.runtime.copyPages(copies);
      if (parts.length > 0) await this.#runParts(parts);
    } finally {
      this.#busy = new Set();
    }
    this.#running.sweep();
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
    const parts = batch.filter(({ place }) => place.running);
    for (const { sequence, end } of parts) sequence.prepareNext(end);
    return { parts, copies };
  }

  #preemptYoungest(): void {
    const youngest = this.#running.youngest!;
    if (this.#running.size === 1) {
      // Its strands shared more when its demand was reckoned than they do now.
      const [needed, total] = [this.#cache.demand(youngest.job), this.#cache.totalPages];
      this.#running.fail(
        youngest,
        new CacheTooSmallError(youngest.job.positions, needed[0]!, total[0]!, PAGE_TOKENS, youngest.job.width),
      );
      return;
    }
    this.#counters.preemptions += 1;
    this.#running.remove(youngest);
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
      if (parts.length === 1) this.#running.fail(parts[0]!.place, error);
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
      this.#running.fail(place, error);
    }
    this.#counters.generatedTokens += place.job.generated - place.counted;
    place.counted = place.job.generated;
  }
}
