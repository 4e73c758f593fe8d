// An answer by beam search: one strand for every beam that still grows. After each step the
// search says which beams go on; theirs are the strands, parted where a beam has several
// children, dropped where it has none.

import type { OutputRequest, TokenLogprob } from "../../backend/backend.js";
import type { AdapterUse } from "../../model/adapter.js";
import { logitSums, topLogprobs } from "../../sampling/logprobs.js";
import { likeliest } from "../../sampling/sample.js";
import { adapterCondition } from "../adapters.js";
import { choiceAfter, NOTHING } from "../answer-outputs.js";
import type { AnswerRecord, ChosenToken } from "../answer-record.js";
import type { Job, JobPrompt, Strand, StrandAnswer } from "../job.js";
import { BeamSearch, type BeamShape } from "./beam-search.js";

/** An id that a beam may go on with: its log-probability among what sampling leaves, and what is told of it. */
interface Branch extends TokenLogprob {
  readonly token: ChosenToken;
}

export class BeamAnswer implements Job {
  readonly prompts: readonly JobPrompt[];
  readonly width: number;
  readonly positions: number;
  readonly shared: number;
  /** What all beams agree on is said. */
  readonly apart: number;
  readonly condition: string;
  readonly adapters: readonly AdapterUse[];
  readonly keep = true;
  readonly #record: AnswerRecord;
  readonly #search: BeamSearch<Branch>;
  /** Of each beam, in order; `null`: it has ended. */
  #strands: (Strand | null)[] = [];
  /** What a strand says may come next, once it has. */
  readonly #branches = new Map<Strand, Branch[]>();

  constructor(record: AnswerRecord, shape: BeamShape) {
    const { prompt, limit, options } = record;
    this.prompts = [{ ids: prompt, reusable: prompt.length - 1 }];
    this.width = shape.count;
    this.positions = record.positions;
    this.shared = prompt.length;
    this.apart = shape.length;
    this.adapters = record.options.adapters;
    this.condition = adapterCondition(this.adapters);
    this.#record = record;
    this.#search = new BeamSearch(shape, limit, options.stopIds);
  }

  get paused(): boolean {
    return this.#record.paused;
  }

  get generated(): number {
    return this.#record.length;
  }

  begin(strands: readonly Strand[]): void {
    this.#strands = [...strands];
    this.#record.begin();
  }

  outputs({ ids }: Strand, start: number, end: number): OutputRequest[] {
    return end < ids.length ? [] : [{ ...NOTHING, index: end - 1 - start, logits: true }];
  }

  accept(answers: readonly StrandAnswer[]): void {
    for (const { strand, outputs } of answers)
      if (outputs[0]) this.#branches.set(strand, this.#branchesOf(strand, outputs[0].logits!));
    const growing = this.#strands.filter((strand) => strand !== null);
    if (growing.some((strand) => !this.#branches.has(strand))) return;
    this.#record.reused = growing[0]!.reused;
    const said = this.#search.grow(this.#strands.map((strand) => (strand ? this.#branches.get(strand)! : [])));
    this.#branches.clear();
    const goesOn = said.every(({ token }) => this.#record.take(token));
    if (goesOn) this.#move();
  }

  #branchesOf(strand: Strand, logits: Float32Array): Branch[] {
    const { options } = this.#record;
    const { largest, logSum } = logitSums(logits);
    const top = topLogprobs(logits, options.logprobs ?? 0);
    return likeliest(logits, choiceAfter(this.#record, strand.ids), this.width).map(({ id, logprob }) => ({
      id,
      logprob,
      token: { id, logprob: logits[id]! - largest - logSum, top },
    }));
  }

  /** Beams that grew take over their parents' strands; a parent's second child needs a strand of its own. */
  #move(): void {
    const { beams } = this.#search;
    const before = this.#strands;
    const heirs = before.map((_, parent) => beams.findIndex((beam) => beam.parent === parent && !beam.ended));
    for (const [parent, strand] of before.entries()) if (heirs[parent]! < 0) strand?.drop();
    this.#strands = beams.map(({ parent, ended }, index) => {
      if (ended) return null;
      return heirs[parent] === index ? before[parent]! : before[parent]!.fork();
    });
    for (const [index, strand] of this.#strands.entries()) strand?.append(beams[index]!.newest!.id);
  }
}
