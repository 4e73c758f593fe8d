// A job in the scheduler, from its request to its end, with its strands.

import type { Output } from "../backend/backend.js";
import type { Job, StrandAnswer } from "./job.js";
import type { KvCache } from "./kv-cache.js";
import { Sequence, type SequenceOwner } from "./sequence.js";

/** What a strand's part of a step has come to. */
export interface AnsweredPart {
  readonly sequence: Sequence;
  /** Everything up to here is fed. */
  readonly end: number;
  readonly outputs: readonly Output[];
}

export class Place implements SequenceOwner {
  readonly job: Job;
  /** Requests are numbered as they come. */
  readonly order: number;
  /** Settles when the job holds nothing any more. */
  readonly done: Promise<void>;
  /** Pages set aside for it, per group; `null`: it does not run. */
  reserved: readonly number[] | null = null;
  cancelled = false;
  /** Later requests that began before it. */
  overtaken = 0;
  /** It has run before. */
  begun = false;
  /** Of `job.generated`, what the counters know. */
  counted = 0;
  readonly #sequences: Sequence[];
  #resolve!: () => void;
  #reject!: (error: unknown) => void;

  constructor(job: Job, order: number, cache: KvCache) {
    this.job = job;
    this.order = order;
    this.#sequences = job.prompts.map((prompt) => new Sequence(this, cache, prompt));
    this.done = new Promise<void>((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
    this.done.catch(() => {}); // whoever waits for the job awaits `done` itself; nobody must
  }

  get sequences(): readonly Sequence[] {
    return this.#sequences;
  }

  get running(): boolean {
    return this.reserved !== null;
  }

  get complete(): boolean {
    return this.#sequences.every((sequence) => sequence.complete);
  }

  add(sequence: Sequence): void {
    if (this.#sequences.length >= this.job.width) throw new RangeError(`a job of ${this.job.width} strands forks once more`);
    this.#sequences.push(sequence);
  }

  remove(sequence: Sequence): void {
    this.#sequences.splice(this.#sequences.indexOf(sequence), 1);
  }

  /** All its strands take their places in the cache; returns how many positions were there already. */
  begin(): number {
    const reused = this.#sequences.reduce((sum, sequence) => sum + sequence.begin(), 0);
    if (!this.begun) {
      this.begun = true;
      this.job.begin(this.#sequences);
    }
    return reused;
  }

  /** Its strands' parts of a step are over. */
  advance(parts: readonly AnsweredPart[]): void {
    const answers: StrandAnswer[] = [];
    for (const { sequence, end, outputs } of parts) {
      const answer = sequence.advance(end, outputs);
      if (answer) answers.push(answer);
    }
    if (answers.length > 0) this.job.accept(answers);
  }

  giveWay(): void {
    for (const sequence of this.#sequences) sequence.giveWay();
  }

  /** Complete or cancelled: what is fed so far may serve a later request. */
  leave(): void {
    for (const sequence of this.#sequences) sequence.retire();
    this.#resolve();
  }

  fail(error: unknown): void {
    for (const sequence of this.#sequences) sequence.release();
    this.#reject(error);
  }
}
