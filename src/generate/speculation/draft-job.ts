// A draft model's side of one answer, as a job of a scheduler of its own that runs the draft
// model: it reads what the answer has become, guesses some ids ahead, and sleeps until it is asked
// again. Guesses that did not stand are taken back; those that did need not be read again.

import type { OutputRequest } from "../../backend/backend.js";
import { choiceAfter, NOTHING } from "../answer-outputs.js";
import type { AnswerRecord } from "../answer-record.js";
import type { Job, JobPrompt, Strand, StrandAnswer } from "../job.js";

export class DraftJob implements Job {
  readonly prompts: readonly JobPrompt[];
  readonly width = 1;
  readonly positions: number;
  readonly shared = 0;
  readonly condition = "";
  readonly keep = true;
  readonly generated = 0;
  /** It sleeps: what was asked of it is there. */
  paused = false;
  readonly #record: AnswerRecord;
  #strand: Strand | null = null;
  #guesses: number[] = [];
  #wanted: number;
  #wake: () => void = () => {};

  /**
   * @param ids the answer so far, its prompt included
   * @param count guesses that are wanted first
   */
  constructor(record: AnswerRecord, ids: Int32Array, count: number) {
    this.prompts = [{ ids: ids.slice(), reusable: ids.length - 1 }];
    this.positions = record.positions;
    this.#record = record;
    this.#wanted = count;
  }

  /** Resolves when it sleeps. */
  asleep(): Promise<void> {
    if (this.paused) return Promise.resolve();
    return new Promise((resolve) => {
      this.#wake = resolve;
    });
  }

  /** Complete while it sleeps. */
  get guesses(): readonly number[] {
    return this.#guesses;
  }

  /** Wakes it for the next guesses; only while it sleeps. */
  next(ids: Int32Array, count: number): void {
    const strand = this.#strand!;
    const known = strand.ids;
    const most = Math.min(known.length, ids.length - 1); // the newest id is always read: a guess is made from what it says
    let common = 0;
    while (common < most && known[common] === ids[common]) common++;
    if (common < known.length) strand.truncate(common);
    strand.append(...ids.subarray(common));
    this.#guesses = [];
    this.#wanted = count;
    this.paused = false;
  }

  begin([strand]: readonly Strand[]): void {
    this.#strand = strand!;
  }

  /** A draft that draws with the same numbers as the model is right more often. */
  outputs({ ids }: Strand, start: number, end: number): OutputRequest[] {
    return end < ids.length ? [] : [{ ...NOTHING, index: end - 1 - start, sample: choiceAfter(this.#record, ids) }];
  }

  /** The last guess is appended too, so that the job is not over; it is read when it has stood. */
  accept(answers: readonly StrandAnswer[]): void {
    for (const { strand, outputs } of answers) {
      const guess = outputs[0]?.id;
      if (guess === undefined || guess === null) continue;
      this.#guesses.push(guess);
      strand.append(guess);
    }
    this.paused = this.#guesses.length >= this.#wanted;
    if (this.paused) this.#wake();
  }
}
