// An answer that guesses ahead: as a plain one, but a step may feed ids on trust behind the one
// that is certain, and the model says of every one of them what it would have chosen there.

import type { Output, OutputRequest } from "../../backend/backend.js";
import type { AdapterUse } from "../../model/adapter.js";
import { adapterCondition } from "../adapters.js";
import { choiceAfter, NOTHING, promptOutputs } from "../answer-outputs.js";
import type { AnswerRecord } from "../answer-record.js";
import type { Job, JobPrompt, Strand, StrandAnswer } from "../job.js";
import type { Guesses } from "../request.js";
import { yieldedIds } from "./acceptance.js";
import type { Proposer } from "./proposer.js";
import type { SpeculatingAnswer } from "./speculator.js";

export class SpeculativeAnswer implements Job, SpeculatingAnswer {
  readonly prompts: readonly JobPrompt[];
  readonly width = 1;
  readonly positions: number;
  readonly shared = 0;
  readonly condition: string;
  readonly adapters: readonly AdapterUse[];
  readonly keep = true;
  readonly proposer: Proposer;
  readonly #record: AnswerRecord;
  /** Most guesses of a step, and how many are worth asking for after the last ones. */
  readonly #most: number;
  #worthwhile: number;
  #strand: Strand | null = null;
  /** Fed, or to be fed, behind the ids that are certain. */
  #trusted: readonly number[] = [];
  /** What the model said after the newest certain id and after each trusted one. */
  #chosen: Output[] = [];

  /** @param most guesses of a step */
  constructor(record: AnswerRecord, proposer: Proposer, most: number) {
    const { prompt, options } = record;
    this.prompts = [{ ids: prompt, reusable: options.promptLogprobs === null ? prompt.length - 1 : 0 }];
    this.positions = record.positions;
    this.proposer = proposer;
    this.adapters = record.options.adapters;
    this.condition = adapterCondition(this.adapters);
    this.#record = record;
    this.#most = most;
    this.#worthwhile = most;
  }

  get paused(): boolean {
    return this.#record.paused;
  }

  get generated(): number {
    return this.#record.length;
  }

  get guesses(): Guesses | null {
    return this.#record.guesses;
  }

  get ids(): Int32Array {
    return this.#strand!.ids;
  }

  /** None before the first token, nor while KV is computed again. The last token of the answer is never fed, nor guessed. */
  get guessesWanted(): number {
    if (this.paused || this.#record.length === 0 || this.#strand?.remaining !== 1 || this.#trusted.length > 0) return 0;
    return Math.min(this.#worthwhile, this.#record.limit - this.#record.length - 1);
  }

  trust(guesses: readonly number[]): void {
    this.#trusted = guesses;
    this.#strand!.append(...guesses);
  }

  begin([strand]: readonly Strand[]): void {
    this.#strand = strand!;
    this.#record.begin();
  }

  outputs({ ids }: Strand, start: number, end: number): OutputRequest[] {
    const record = this.#record;
    const requests = promptOutputs(record, start, end);
    if (record.limit === 0) return requests;
    for (let at = Math.max(start, record.prompt.length - 1); at < end; at++) {
      const sample = choiceAfter(record, ids.subarray(0, at + 1));
      requests.push({ ...NOTHING, index: at - start, sample, topLogprobs: record.options.logprobs ?? 0 });
    }
    return requests;
  }

  accept([answer]: readonly StrandAnswer[]): void {
    const { strand, outputs } = answer!;
    this.#record.reused = strand.reused;
    for (const output of outputs) {
      if (output.id === null) this.#record.takePromptToken(output);
      else this.#chosen.push(output);
    }
    if (strand.remaining > 0) return;
    if (this.#record.limit === 0) this.#record.finish("length");
    else this.#judge(strand);
  }

  #judge(strand: Strand): void {
    const trusted = this.#trusted;
    const chosen = this.#chosen;
    this.#trusted = [];
    this.#chosen = [];
    const certain = strand.ids.length - trusted.length;
    const ids = chosen.map(({ id }) => id!);
    const yielded = yieldedIds(trusted, ids);
    const over = yielded.findIndex((id, i) => !this.#record.take({ id, logprob: chosen[i]!.logprob, top: chosen[i]!.top }));
    // What stands of the guesses has been fed; the others are forgotten, and what comes after an end.
    const standing = over < 0 ? yielded.length - 1 : over;
    this.#record.countGuesses(trusted.length, standing);
    // Every guess costs, and after a wrong one the rest is for nothing: as many as stood and one more are tried next time.
    if (trusted.length > 0) this.#worthwhile = Math.min(this.#most, standing < trusted.length ? standing + 1 : 2 * standing);
    strand.truncate(certain + standing);
    if (over < 0) strand.append(yielded[standing]!);
  }
}
