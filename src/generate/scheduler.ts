// Runs jobs on a runtime, one step at a time. Requests wait in the order in which they came
// until a place (maxSequences) and their KV pages are free; running ones share the steps.
// A sequence leaves as soon as it is complete, cancelled or has failed, and its pages with it.

import { setImmediate as nextTurn } from "node:timers/promises";
import type { Output, Runtime } from "../backend/backend.js";
import { type BatchPart, composeBatch } from "./batch.js";
import { SchedulerClosedError } from "./errors.js";
import { KvCache } from "./kv-cache.js";
import { Sequence, type SequenceJob } from "./sequence.js";

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

/** What the scheduler is doing, for people and tests. */
export interface SchedulerLoad {
  readonly waiting: number;
  readonly running: number;
  /** Finished sequences whose KV is kept for reuse. */
  readonly idle: number;
  /** Per cache group: pages that nobody holds, and pages reserved by running sequences. */
  readonly freePages: readonly number[];
  readonly reservedPages: readonly number[];
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

interface Place {
  readonly job: SequenceJob;
  sequence: Sequence | null;
  cancelled: boolean;
  readonly resolve: () => void;
  readonly reject: (error: unknown) => void;
}

export class Scheduler {
  readonly runtime: Runtime;
  readonly #cache: KvCache;
  readonly #waiting: Place[] = [];
  readonly #running: Place[] = [];
  /** The loop, while there is something to do. */
  #loop: Promise<void> | null = null;
  /** Taking part in the step that runs now. */
  #stepping: ReadonlySet<Sequence> = new Set();
  #closed = false;
  readonly #counters = { steps: 0, promptTokens: 0, generatedTokens: 0, reusedTokens: 0, preemptions: 0 };

  constructor(runtime: Runtime) {
    this.runtime = runtime;
    this.#cache = new KvCache(runtime.plan.cacheGroups, runtime.spec.rope);
  }

  get load(): SchedulerLoad {
    return {
      waiting: this.#waiting.length,
      running: this.#running.length,
      idle: this.#cache.idleSequences,
      freePages: this.#cache.freePages,
      reservedPages: this.#cache.reservedPages,
      totalPages: this.runtime.plan.cacheGroups.map((group) => group.pages),
    };
  }

  get counters(): SchedulerCounters {
    return { ...this.#counters };
  }

  /** Longest sequence that can run: the plan's context, or what the KV pool holds if that is less. */
  get longestSequence(): number {
    return Math.min(this.runtime.plan.run.context, this.#cache.largestSequence);
  }

  /**
   * Queues a job.
   *
   * @throws {CacheTooSmallError} when it could not run even alone
   * @throws {SchedulerClosedError} after {@link close}
   */
  submit(job: SequenceJob): Ticket {
    if (this.#closed) throw new SchedulerClosedError();
    this.#cache.checkFits(job.positions);
    let place!: Place;
    const done = new Promise<void>((resolve, reject) => {
      place = { job, sequence: null, cancelled: false, resolve, reject };
    });
    done.catch(() => {}); // whoever waits for the job awaits `done` itself; nobody must
    this.#waiting.push(place);
    this.#wake();
    return { done, cancel: () => this.#cancel(place, done), resume: () => this.#wake() };
  }

  /** Forgets the KV of finished sequences. */
  clearIdle(): void {
    this.#cache.clear();
  }

  /** Ends all jobs with {@link SchedulerClosedError}; resolves when no step runs any more. Idempotent. */
  async close(): Promise<void> {
    this.#closed = true;
    for (const place of this.#waiting.splice(0)) place.reject(new SchedulerClosedError());
    await this.#loop;
    for (const place of [...this.#running]) this.#fail(place, new SchedulerClosedError());
    this.#cache.clear();
  }

  async #cancel(place: Place, done: Promise<void>): Promise<void> {
    place.cancelled = true;
    const waitingAt = this.#waiting.indexOf(place);
    if (waitingAt >= 0) {
      this.#waiting.splice(waitingAt, 1);
      place.resolve();
    } else if (place.sequence && this.#running.includes(place) && !this.#stepping.has(place.sequence)) {
      this.#leave(place);
    }
    this.#wake(); // its room may be another's
    await done.catch(() => {});
  }

  #wake(): void {
    if (this.#loop || this.#closed) return;
    // After the caller's turn: requests made together begin together.
    this.#loop = Promise.resolve().then(() => this.#run());
  }

  async #run(): Promise<void> {
    try {
      while (!this.#closed) {
        this.#admit();
        const batch = composeBatch(
          this.#running.map((place) => place.sequence!),
          this.runtime.plan.run.prefillChunk,
        );
        if (batch.length === 0) break;
        await this.#step(batch);
        await nextTurn(); // cancellations and new requests are read between steps, whatever the backend does
      }
    } catch (error) {
      // Not a failed step, those are handled: a defect here must not leave anybody waiting.
      for (const place of [...this.#running]) this.#fail(place, error);
      for (const place of this.#waiting.splice(0)) place.reject(error);
    } finally {
      this.#loop = null;
    }
  }

  #admit(): void {
    while (this.#waiting.length > 0 && this.#running.length < this.runtime.plan.run.maxSequences) {
      const place = this.#waiting[0]!;
      const lease = this.#cache.lease(place.job);
      if (!lease) return;
      this.#waiting.shift();
      place.sequence = new Sequence(place.job, lease);
      this.#running.push(place);
      this.#counters.reusedTokens += lease.reused;
      place.job.begin(lease.reused);
    }
  }

  async #step(batch: readonly BatchPart[]): Promise<void> {
    for (const { sequence, end } of batch) this.#cache.prepare(sequence.lease, sequence.fed, end);
    this.#stepping = new Set(batch.map(({ sequence }) => sequence));
    try {
      await this.#runParts(batch);
    } finally {
      this.#stepping = new Set();
    }
    for (const place of [...this.#running]) if (place.cancelled || place.sequence!.complete) this.#leave(place);
  }

  /**
   * A step fails as a whole, though the reason may lie in one request (nothing left to sample,
   * NaN from its prompt). A step only depends on its batch and the pages, so each part is tried
   * again alone, and only those that fail alone end.
   */
  async #runParts(batch: readonly BatchPart[]): Promise<void> {
    let outputs: Output[][];
    try {
      outputs = await this.runtime.step(batch.map(({ sequence, end }) => sequence.entry(end)));
    } catch (error) {
      if (batch.length === 1) this.#failSequence(batch[0]!.sequence, error);
      else for (const part of batch) await this.#runParts([part]);
      return;
    }
    this.#counters.steps += 1;
    for (const [i, { sequence, end }] of batch.entries()) {
      this.#count(sequence, end, outputs[i]!);
      try {
        sequence.advance(end, outputs[i]!);
      } catch (error) {
        this.#failSequence(sequence, error);
      }
    }
  }

  #count({ fed, job }: Sequence, end: number, outputs: readonly Output[]): void {
    this.#counters.promptTokens += Math.max(0, Math.min(end, job.prompt.length) - fed);
    for (const { id } of outputs) if (id !== null) this.#counters.generatedTokens += 1;
  }

  /** Complete or cancelled: what is fed so far may serve a later request. */
  #leave(place: Place): void {
    this.#remove(place);
    const { job, lease, fedIds } = place.sequence!;
    if (job.keep) this.#cache.retire(lease, fedIds, job.prompt.length);
    else this.#cache.release(lease);
    place.resolve();
  }

  #failSequence(sequence: Sequence, error: unknown): void {
    const place = this.#running.find((running) => running.sequence === sequence);
    if (place) this.#fail(place, error);
  }

  #fail(place: Place, error: unknown): void {
    this.#remove(place);
    this.#cache.release(place.sequence!.lease);
    place.reject(error);
  }

  #remove(place: Place): void {
    this.#running.splice(this.#running.indexOf(place), 1);
  }
}
