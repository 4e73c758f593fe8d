// An answer with guidance: two strands, one behind the prompt and one behind the negative prompt,
// fed the same answer. When both have said what may come next, one id is chosen for both.

import type { OutputRequest } from "../backend/backend.js";
import type { AdapterUse } from "../model/adapter.js";
import { topLogprobs } from "../sampling/logprobs.js";
import { sample } from "../sampling/sample.js";
import { adapterCondition } from "./adapters.js";
import { choiceAfter, NOTHING } from "./answer-outputs.js";
import type { AnswerRecord } from "./answer-record.js";
import { mixGuidance } from "./guidance.js";
import type { Job, JobPrompt, Strand, StrandAnswer } from "./job.js";

export class GuidedAnswer implements Job {
  readonly prompts: readonly JobPrompt[];
  readonly width = 2;
  readonly positions: number;
  readonly shared = 0;
  readonly condition: string;
  readonly adapters: readonly AdapterUse[];
  readonly keep = true;
  readonly #record: AnswerRecord;
  readonly #scale: number;
  #strands: readonly Strand[] = [];
  /** What each strand said after its newest id, once it has. */
  #said: (Float32Array | null)[] = [null, null];

  constructor(record: AnswerRecord, scale: number, negative: Int32Array) {
    this.prompts = [record.prompt, negative].map((ids) => ({ ids, reusable: ids.length - 1 }));
    this.positions = Math.max(record.prompt.length, negative.length) + Math.max(0, record.limit - 1);
    this.adapters = record.options.adapters;
    this.condition = adapterCondition(this.adapters);
    this.#record = record;
    this.#scale = scale;
  }

  get paused(): boolean {
    return this.#record.paused;
  }

  get generated(): number {
    return this.#record.length;
  }

  begin(strands: readonly Strand[]): void {
    this.#strands = strands;
    this.#record.begin();
  }

  outputs({ ids }: Strand, start: number, end: number): OutputRequest[] {
    return end < ids.length ? [] : [{ ...NOTHING, index: end - 1 - start, logits: true }];
  }

  accept(answers: readonly StrandAnswer[]): void {
    for (const { strand, outputs } of answers) if (outputs[0]) this.#said[this.#strands.indexOf(strand)] = outputs[0].logits;
    const [prompt, negative] = this.#said;
    if (!prompt || !negative) return;
    this.#said = [null, null];
    this.#choose(mixGuidance(prompt, negative, this.#scale));
  }

  /** Penalties look at the prompt's strand; what is told of the id is told of the mixture. */
  #choose(mixed: Float32Array): void {
    const record = this.#record;
    const [strand] = this.#strands;
    record.reused = strand!.reused;
    const { id, logprob } = sample(mixed, choiceAfter(record, strand!.ids));
    const top = topLogprobs(mixed, record.options.logprobs ?? 0);
    if (record.take({ id, logprob, top })) for (const each of this.#strands) each.append(id);
  }
}
