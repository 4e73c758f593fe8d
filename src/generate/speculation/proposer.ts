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
   * @param ids the answer so far, its prompt included; at least one more than in the round before
   * @param count most guesses, at least 1
   */
  ask(ids: Int32Array, count: number): void;
  /** What has been guessed: once for each ask(), when the draft's scheduler has settled. */
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

  ask(ids: Int32Array, count: number): void {
    this.#index.append(ids.subarray(this.#index.length));
    this.#count = count;
  }

  take(): readonly number[] {
    return this.#index.propose(this.#count);
  }

  close(): void {}
}

/** Guesses of a draft model. */
export class DraftProposer implements Proposer {
  readonly #scheduler: Scheduler;
  readonly #record: AnswerRecord;
  readonly #vocabSize: number;
  #running: { readonly job: DraftJob; readonly ticket: Ticket } | null = null;
  #failed = false;

  /**
   * @param scheduler the draft model's
   * @param vocabSize the model's: a draft may have more rows
   */
  constructor(scheduler: Scheduler, record: AnswerRecord, vocabSize: number) {
    this.#scheduler = scheduler;
    this.#record = record;
    this.#vocabSize = vocabSize;
  }

  ask(ids: Int32Array, count: number): void {
    if (this.#failed) return;
    if (this.#running) {
      this.#running.job.next(ids, count);
      this.#running.ticket.resume();
      return;
    }
    // What the draft has no row for it cannot read: some prompts name such ids, no answer does.
    const { vocabSize } = this.#scheduler.runtime.spec;
    if (ids.some((id) => id >= vocabSize)) return;
    const job = new DraftJob(this.#record, ids, count);
    const ticket = this.#scheduler.submit(job);
    ticket.done.catch(() => {
      this.#failed = true;
    });
    this.#running = { job, ticket };
  }

  take(): readonly number[] {
    if (!this.#running || this.#failed) return [];
    if (!this.#running.job.paused) {
      // It has found no room: it may have more luck in another round.
      this.close();
      return [];
    }
    const unknown = this.#running.job.guesses.findIndex((id) => id >= this.#vocabSize);
    return unknown < 0 ? this.#running.job.guesses : this.#running.job.guesses.slice(0, unknown);
  }

  close(): void {
    void this.#running?.ticket.cancel();
    this.#running = null;
  }
}
