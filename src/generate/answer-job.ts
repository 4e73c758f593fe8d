// A plain answer as the scheduler runs it: one strand, one id sampled after the other.

import type { Output, OutputRequest } from "../backend/backend.js";
import type { AdapterUse } from "../model/adapter.js";
import { adapterCondition } from "./adapters.js";
import { choiceAfter, NOTHING, promptOutputs } from "./answer-outputs.js";
import type { AnswerRecord } from "./answer-record.js";
import type { Job, JobPrompt, Strand, StrandAnswer } from "./job.js";

export class AnswerJob implements Job {
  readonly prompts: readonly JobPrompt[];
  readonly width = 1;
  readonly positions: number;
  readonly shared = 0;
  readonly condition: string;
  readonly adapters: readonly AdapterUse[];
  readonly keep = true;
  readonly #record: AnswerRecord;

  constructor(record: AnswerRecord) {
    const { prompt, options } = record;
    // The last prompt token's logits are wanted, or those of all of them.
    this.prompts = [{ ids: prompt, reusable: options.promptLogprobs === null ? prompt.length - 1 : 0 }];
    this.positions = record.positions;
    this.adapters = options.adapters;
    this.condition = adapterCondition(options.adapters);
    this.#record = record;
  }

  get paused(): boolean {
    return this.#record.paused;
  }

  get generated(): number {
    return this.#record.length;
  }

  begin(): void {
    this.#record.begin();
  }

  outputs({ ids }: Strand, start: number, end: number): OutputRequest[] {
    const record = this.#record;
    const requests = promptOutputs(record, start, end);
    if (end < record.prompt.length || record.limit === 0) return requests;
    const sample = choiceAfter(record, ids.subarray(0, end));
    requests.push({ ...NOTHING, index: end - 1 - start, sample, topLogprobs: record.options.logprobs ?? 0 });
    return requests;
  }

  accept([answer]: readonly StrandAnswer[]): void {
    const { strand, outputs } = answer!;
    this.#record.reused = strand.reused;
    for (const output of outputs) {
      if (output.id === null) this.#record.takePromptToken(output);
      else if (this.#takeSample(output, output.id)) strand.append(output.id);
    }
    if (this.#record.limit === 0 && strand.remaining === 0) this.#record.finish("length");
  }

  #takeSample({ logprob, top }: Output, id: number): boolean {
    return this.#record.take({ id, logprob, top });
  }
}
