// Where guesses come from. Each answer that speculates has a proposer of its own, told in every
// round what the answer has become.

import type { AnswerRecord } from "../answer-record.js";
import type { Scheduler, Ticket } from "../scheduler.js";
import { DraftJob } from "./draft-job.js";
import { type NgramBounds, NgramIndex } from "./ngram-index.js";

export interface Proposer {
  /**
   * Begins to guess what follows.
   *
   * @param ids the answer so far, its prompt included; more than in the round before
   * @param count most guesses, at least 1
   * @returns what is to be waited for before take(); `null`: nothing
   */
  ask(ids: Int32Array, count: number): Promise<void> | null;
  /** What has been guessed; once for each ask(). */
  take(): readonly number[];
  /** The answer is over. */
  close(): void;
}

/** Guesses that the text repeats itself. */
export class NgramProposer implements Proposer {
  readonly #index: NgramIndex;
  #count = 0;

  constructor(bounds?: NgramBounds) {
    this.#index = new NgramIndex(bounds);
  }

  ask(ids: Int32Array, count: number): null {
    this.#index.append(ids.subarray(this.#index.length));
    this.#count = count;
    return null;
  }

  take(): readonly number[] {
    return this.#index.propose(this.#count);
  }

  close(): void {}
}

/** A text of which the draft has so many ids to read is read while answers go on without its guesses. */
const LONG_TEXT = 512;

/** Guesses of a draft model. */
export class DraftProposer implements Proposer {
  readonly #scheduler: Scheduler;
  readonly #record: AnswerRecord;
  readonly #vocabSize: number;
  #running: { readonly job: DraftJob; readonly ticket: Ticket; readonly failed: Promise<void> } | null = null;
  /** What it guesses now follows the ids of the latest ask(). */
  #asked = false;
  /** It is of no use any more. */
  #over = false;

  /**
   * @param scheduler the draft model's
   * @param vocabSize the model's: a draft may have more rows
   */
  constructor(scheduler: Scheduler, record: AnswerRecord, vocabSize: number) {
    this.#scheduler = scheduler;
    this.#record = record;
    this.#vocabSize = vocabSize;
  }

  ask(ids: Int32Array, count: number): Promise<void> | null {
    this.#asked = false;
    if (this.#over) return null;
    if (this.#running && !this.#running.job.paused) return null; // still reading, or waiting for room
    const isNew = this.#running === null;
    if (isNew) this.#begin(ids, count);
    else {
      this.#running!.job.next(ids, count);
      this.#running!.ticket.resume();
    }
    if (!this.#running) return null;
    this.#asked = true;
    // What the model has found in its cache the draft has most likely in its own.
    return isNew && ids.length - this.#record.reused > LONG_TEXT
      ? null
      : Promise.race([this.#running.job.asleep(), this.#running.failed]);
  }

  take(): readonly number[] {
    if (!this.#running || this.#over) return [];
    const { job } = this.#running;
    // It may be reading still, or wait for room.
    if (!job.paused || !this.#asked) return [];
    const unknown = job.guesses.findIndex((id) => id >= this.#vocabSize);
    return unknown < 0 ? job.guesses : job.guesses.slice(0, unknown);
  }

  close(): void {
    void this.#running?.ticket.cancel();
    this.#running = null;
  }

  #begin(ids: Int32Array, count: number): void {
    // What the draft has no row for it cannot read: some prompts name such ids, no answer does.
    const { vocabSize } = this.#scheduler.runtime.spec;
    if (ids.some((id) => id >= vocabSize)) return;
    const job = new DraftJob(this.#record, ids, count);
    try {
      const ticket = this.#scheduler.submit(job);
      const failed = ticket.done.catch(() => {
        this.#over = true;
      });
      this.#running = { job, ticket, failed };
    } catch {
      this.#over = true; // a text that the draft has not the pages for: its answer does without
    }
  }
}
