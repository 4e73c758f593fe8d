// What the scheduler asks before it composes a step: all answers that speculate and wait for
// their next id get guesses behind it. Their drafts run side by side, in shared steps of the
// draft model.

import type { Runtime } from "../../backend/backend.js";
import type { AnswerRecord } from "../answer-record.js";
import type { Guesses } from "../request.js";
import { Scheduler } from "../scheduler.js";
import type { SpeculationPlan } from "../strategy-options.js";
import { NGRAM_BOUNDS } from "./ngram-index.js";
import { DraftProposer, NgramProposer, type Proposer } from "./proposer.js";

/**
 * Guesses of one step, all answers together: with more answers a step is worth its while without
 * guesses, and each row of wrong ones costs more.
 */
const MOST_GUESSES = 32;

/** An answer that guesses ahead. */
export interface SpeculatingAnswer {
  readonly proposer: Proposer;
  /** So far. */
  readonly guesses: Guesses | null;
  /** How many guesses it can use in the next step; 0 while it has none to wait for. */
  readonly guessesWanted: number;
  /** All its ids so far. */
  readonly ids: Int32Array;
  /** Feeds these too, on trust. */
  trust(guesses: readonly number[]): void;
}

export class Speculator {
  /** Runs the draft model; `null` where there is none. */
  readonly draft: Scheduler | null;
  readonly #vocabSize: number;
  #finished: Guesses = { proposed: 0, accepted: 0 };
  readonly #answers = new Set<SpeculatingAnswer>();

  constructor({ draft, spec }: Runtime) {
    this.draft = draft && new Scheduler(draft);
    this.#vocabSize = spec.vocabSize;
  }

  /** What makes an answer's guesses. */
  proposerFor(record: AnswerRecord, { ngrams }: SpeculationPlan): Proposer {
    if (ngrams || !this.draft) return new NgramProposer(ngrams ?? NGRAM_BOUNDS);
    return new DraftProposer(this.draft, record, this.#vocabSize);
  }

  add(answer: SpeculatingAnswer): void {
    this.#answers.add(answer);
  }

  /** The answer is over. */
  remove(answer: SpeculatingAnswer): void {
    if (!this.#answers.delete(answer)) return;
    this.#finished = sumOf([this.#finished, answer.guesses]);
    answer.proposer.close();
  }

  /** Of all answers, those that are not over included. */
  get guesses(): Guesses {
    return sumOf([this.#finished, ...[...this.#answers].map(({ guesses }) => guesses)]);
  }

  /** Asks all, waits for the draft model, hands the guesses out. */
  async propose(): Promise<void> {
    const waiting = [...this.#answers].filter(({ guessesWanted }) => guessesWanted > 0);
    const share = Math.floor(MOST_GUESSES / waiting.length);
    if (waiting.length === 0 || share === 0) return;
    const asked = waiting.map((answer) => answer.proposer.ask(answer.ids, Math.min(share, answer.guessesWanted)));
    // Where the draft has no room for somebody, it settles without having guessed for all.
    if (asked.some((promise) => promise !== null)) await Promise.race([Promise.all(asked), this.draft?.settled()]);
    for (const answer of waiting) if (this.#answers.has(answer)) answer.trust(answer.proposer.take());
  }

  async close(): Promise<void> {
    await this.draft?.close();
  }
}

function sumOf(all: readonly (Guesses | null)[]): Guesses {
  return all.reduce<Guesses>(
    (sum, each) => ({ proposed: sum.proposed + (each?.proposed ?? 0), accepted: sum.accepted + (each?.accepted ?? 0) }),
    { proposed: 0, accepted: 0 },
  );
}
