// What the model thinks of given ids: log-probabilities of each after those before it, and
// plain logits. They run through the scheduler like any other request, prefill chunk by
// prefill chunk, and leave nothing behind in the KV cache.

import type { Output, OutputRequest } from "../backend/backend.js";
import type { AdapterUse } from "../model/adapter.js";
import { onAbort } from "../on-abort.js";
import { type AdapterChoice, adapterCondition, resolveAdapters } from "./adapters.js";
import { NOTHING } from "./answer-outputs.js";
import { GenerationOptionError, PromptTooLongError } from "./errors.js";
import type { Job, JobPrompt, Strand, StrandAnswer } from "./job.js";
import { checkIds } from "./prompt.js";
import type { Scheduler, Ticket } from "./scheduler.js";

/**
 * Log-probability of each of `ids[1 …]` given those before it, `[ids.length − 1]`. The last id
 * is not fed, so one more id than the context is welcome.
 *
 * @throws {EmptyPromptError}, {@link TokenIdError}, {@link PromptTooLongError}, {@link CacheTooSmallError}; the
 *   signal's reason when aborted
 */
export async function logprobs(scheduler: Scheduler, ids: ArrayLike<number>, options: ScoreOptions = {}): Promise<Float32Array> {
  options.signal?.throwIfAborted();
  const all = checkIds(ids, scheduler.runtime.spec.vocabSize);
  const scores = new Float32Array(all.length - 1);
  if (scores.length === 0) return scores;
  const fed = all.subarray(0, all.length - 1);
  checkContext(scheduler, fed.length);
  let scored = 0;
  const job = new ScoreJob(fed, {
    adapters: resolveAdapters(options.adapters ?? [], scheduler.runtime.spec.adapters),
    wanted: (position) => ({ ...NOTHING, target: all[position + 1]! }),
    take: ({ targetLogprob }) => {
      scores[scored++] = targetLogprob!;
    },
  });
  await untilDone(scheduler.submit(job), options.signal);
  return scores;
}

/**
 * Logits `[vocab]` at the last positions of a prompt, in order.
 *
 * @param options.last how many; default 1
 * @throws as {@link logprobs} does, and {@link GenerationOptionError} when `last` is no number of positions
 */
export async function logits(
  scheduler: Scheduler,
  ids: ArrayLike<number>,
  options: ScoreOptions & { last?: number } = {},
): Promise<Float32Array[]> {
  const rows: Float32Array[] = [];
  for await (const row of logitRows(scheduler, ids, options)) rows.push(row);
  return rows;
}

/** As {@link logits}, row by row: at most one prefill chunk's rows are held while the reader is busy. */
export async function* logitRows(
  scheduler: Scheduler,
  ids: ArrayLike<number>,
  { last = 1, signal, adapters = [] }: ScoreOptions & { last?: number } = {},
): AsyncGenerator<Float32Array, void, undefined> {
  signal?.throwIfAborted();
  const prompt = checkIds(ids, scheduler.runtime.spec.vocabSize);
  checkContext(scheduler, prompt.length);
  checkLast(last, prompt.length);
  const rows: Float32Array[] = [];
  const job = new ScoreJob(prompt, {
    adapters: resolveAdapters(adapters, scheduler.runtime.spec.adapters),
    wanted: (position) => (position >= prompt.length - last ? { ...NOTHING, logits: true } : null),
    take: (output) => rows.push(output.logits!),
    paused: () => rows.length > 0,
  });
  const ticket = scheduler.submit(job);
  const complete = untilDone(ticket, signal);
  let over = false;
  const noteEnd = (): void => {
    over = true;
  };
  complete.then(noteEnd, noteEnd); // what it says is heard below
  try {
    while (!over || rows.length > 0) {
      if (rows.length === 0) await Promise.race([complete, job.nextStep()]);
      for (let row = rows.shift(); row; row = rows.shift()) {
        yield row;
        signal?.throwIfAborted();
      }
      ticket.resume();
    }
    await complete;
  } finally {
    await ticket.cancel();
  }
}

export interface ScoreOptions {
  signal?: AbortSignal;
  /** As for an answer. */
  adapters?: readonly AdapterChoice[];
}

interface Scoring {
  readonly adapters: readonly AdapterUse[];
  /** What is wanted of a position, or `null`. */
  readonly wanted: (position: number) => Omit<OutputRequest, "index"> | null;
  /** Takes the answers in the order of the positions. */
  readonly take: (output: Output) => void;
  /** Whether nobody has room for more. */
  readonly paused?: () => boolean;
}

/** A job that asks about given ids and generates none. */
export class ScoreJob implements Job {
  readonly prompts: readonly JobPrompt[];
  readonly width = 1;
  readonly positions: number;
  readonly shared = 0;
  readonly condition: string;
  readonly adapters: readonly AdapterUse[];
  readonly keep = false;
  readonly generated = 0;
  readonly #scoring: Scoring;
  #stepped: () => void = () => {};

  constructor(prompt: Int32Array, scoring: Scoring) {
    this.prompts = [{ ids: prompt, reusable: 0 }];
    this.positions = prompt.length;
    this.adapters = scoring.adapters;
    this.condition = adapterCondition(scoring.adapters);
    this.#scoring = scoring;
  }

  get paused(): boolean {
    return this.#scoring.paused?.() ?? false;
  }

  /** Resolves after the next step. */
  nextStep(): Promise<void> {
    return new Promise((resolve) => {
      this.#stepped = resolve;
    });
  }

  begin(): void {}

  outputs(_strand: Strand, start: number, end: number): OutputRequest[] {
    const requests: OutputRequest[] = [];
    for (let position = start; position < end; position++) {
      const wanted = this.#scoring.wanted(position);
      if (wanted) requests.push({ index: position - start, ...wanted });
    }
    return requests;
  }

  accept(answers: readonly StrandAnswer[]): void {
    for (const { outputs } of answers) for (const output of outputs) this.#scoring.take(output);
    this.#stepped();
  }
}

/** Resolves when the job is complete; when the signal is aborted, rejects with its reason once the job holds nothing. */
export async function untilDone(ticket: Ticket, signal: AbortSignal | undefined): Promise<void> {
  const leave = onAbort(signal, () => void ticket.cancel());
  try {
    await ticket.done;
  } finally {
    leave();
  }
  signal?.throwIfAborted();
}

/** @throws {PromptTooLongError} */
export function checkContext(scheduler: Scheduler, positions: number): void {
  const { context } = scheduler.runtime.plan.run;
  if (positions > context) throw new PromptTooLongError(positions, context);
}

function checkLast(last: number, promptTokens: number): void {
  if (Number.isSafeInteger(last) && last >= 1 && last <= promptTokens) return;
  throw new GenerationOptionError(`last cannot be ${String(last)}`, {
    expected: `a number of positions from 1 to the prompt's ${promptTokens}`,
  });
}
