// A job that does whatever jobs may do, at random but repeatably: it feeds one id or several,
// takes back what it was not asked to keep, parts strands and drops them, over one prompt or
// two. After every step it holds what each strand was told against what the model would say
// after that strand's ids alone, so that a wrong, shared or stale page anywhere shows.

import type { OutputRequest } from "../../src/backend/backend.js";
import { NOTHING } from "../../src/generate/answer-outputs.js";
import type { Job, JobPrompt, Strand, StrandAnswer } from "../../src/generate/job.js";
import { promptOf } from "./fake-answers.js";
import type { FakeRuntime } from "./fake-runtime.js";
import { Random } from "./random.js";

export interface Wandering {
  readonly seed: number;
  /** Ids of each prompt. */
  readonly prompts: readonly (readonly number[])[];
  readonly width: number;
  /** Rounds of appending. */
  readonly rounds: number;
  /** Most ids appended at once. */
  readonly stride: number;
}

export class WanderingJob implements Job {
  readonly prompts: readonly JobPrompt[];
  readonly width: number;
  readonly positions: number;
  readonly shared: number;
  readonly condition = "";
  readonly keep = true;
  readonly paused = false;
  generated = 0;
  /** What went wrong first. */
  problem: string | null = null;
  /** Outputs that were checked. */
  checked = 0;
  readonly #runtime: FakeRuntime;
  readonly #stride: number;
  readonly #random: Random;
  #strands: Strand[] = [];
  #rounds: number;

  constructor(runtime: FakeRuntime, { seed, prompts, width, rounds, stride }: Wandering) {
    this.#runtime = runtime;
    this.prompts = prompts.map((ids) => ({ ids: Int32Array.from(ids), reusable: ids.length - 1 }));
    this.width = Math.max(width, prompts.length);
    const longest = Math.max(...prompts.map(({ length }) => length));
    this.positions = longest + rounds * stride;
    this.shared = prompts.length === 1 ? longest : 0;
    this.#rounds = rounds;
    this.#stride = stride;
    this.#random = new Random(seed);
  }

  begin(strands: readonly Strand[]): void {
    this.#strands = [...strands];
  }

  outputs({ promptLength }: Strand, start: number, end: number): OutputRequest[] {
    const requests: OutputRequest[] = [];
    for (let at = Math.max(start, promptLength - 1); at < end; at++)
      requests.push({ ...NOTHING, index: at - start, logits: true });
    return requests;
  }

  accept(answers: readonly StrandAnswer[]): void {
    for (const answer of answers) this.#check(answer);
    const cut = answers.filter(({ strand }) => this.#strands.includes(strand) && this.#random.uniform() < 0.3);
    for (const { strand, start, end } of cut) {
      // Now and then far back, beyond what the last step fed.
      const from = Math.max(strand.promptLength, this.#random.uniform() < 0.2 ? start - 400 : start + 1);
      if (from <= end) strand.truncate(from + this.#random.integer(end - from + 1));
    }
    if (this.#strands.some(({ remaining }) => remaining > 0) || this.#rounds === 0) return;
    this.#rounds--;
    if (this.#strands.length > 1 && this.#random.uniform() < 0.3) this.#drop();
    while (this.#strands.length < this.width && this.#random.uniform() < 0.5) this.#fork();
    for (const strand of this.#strands) this.#append(strand);
  }

  #check({ strand, end, outputs }: StrandAnswer): void {
    const ids = Array.from(strand.ids);
    for (const [i, { logits }] of outputs.entries()) {
      const length = end - outputs.length + i + 1;
      const expected = this.#runtime.expectedLogits(ids.slice(0, length), strand.promptLength);
      this.checked++;
      if (logits?.some((logit, id) => logit !== expected[id])) this.problem ??= `a strand of ${length} ids was told nonsense`;
    }
  }

  #drop(): void {
    const [strand] = this.#strands.splice(this.#random.integer(this.#strands.length), 1);
    strand!.drop();
  }

  #fork(): void {
    this.#strands.push(this.#strands[this.#random.integer(this.#strands.length)]!.fork());
  }

  #append(strand: Strand): void {
    const count = 1 + this.#random.integer(this.#stride);
    strand.append(...promptOf(count, this.#random.integer(1000)));
    this.generated += count;
  }
}
