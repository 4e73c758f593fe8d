// A generation from request to result: checked, queued, streamed, ended. The stream is an
// async iterator of pieces whose return value is the result; leaving it early, or aborting,
// ends the sequence, and the promise that says so settles when its pages are free.

import { onAbort } from "../on-abort.js";
import type { SamplingParameters } from "../sampling/parameters.js";
import { AnswerJob } from "./answer-job.js";
import { AnswerRecord, type AnswerText } from "./answer-record.js";
import { BeamAnswer } from "./beams/beam-answer.js";
import { GenerationLeftError, GenerationOptionError, PromptTooLongError } from "./errors.js";
import { GuidedAnswer } from "./guided-answer.js";
import { type ResolvedOptions, resolveOptions } from "./options.js";
import { checkIds } from "./prompt.js";
import type { GenerationEvent, GenerationRequest, GenerationResult } from "./request.js";
import type { Scheduler, Ticket } from "./scheduler.js";
import { SpeculativeAnswer } from "./speculation/speculative-answer.js";
import type { Speculator } from "./speculation/speculator.js";
import { checkStrategy, planSpeculation, type Speculation } from "./strategy-options.js";
import type { TokenConstraint } from "./token-constraint.js";

/** What a generation needs of a tokenizer. */
export interface AnswerTokenizer {
  readonly eosIds: readonly number[];
  stream(options?: { continuation?: boolean }): AnswerText;
  /** UTF-8 bytes of one token by itself; a special token's are its spelling. */
  bytes(id: number): Uint8Array;
}

/** A loaded model, as generations use it. */
export interface GenerationContext {
  readonly scheduler: Scheduler;
  readonly tokenizer: AnswerTokenizer;
  /** For what a request does not say; see `samplingDefaults`. */
  readonly defaults: SamplingParameters;
  /** Asked by the scheduler for guesses. */
  readonly speculator: Speculator;
  /** Guesses ahead where a request does not say; `null`: as many as the draft model makes by default. */
  readonly speculate: Speculation | null;
}

/** What is made for one answer only. */
export interface AnswerParts {
  /** What it must look like. */
  readonly constraint?: TokenConstraint;
  /** Its ids as text; default: the tokenizer's. */
  readonly text?: AnswerText;
}

type Step = IteratorResult<GenerationEvent, GenerationResult | undefined>;

/** Pieces as they come, then the result as the iterator's return value: `undefined` only after leaving early. */
export interface GenerationStream {
  next(): Promise<Step>;
  /** Ends the generation; resolves when what it held is free. */
  return(): Promise<Step>;
  [Symbol.asyncIterator](): GenerationStream;
}

/**
 * Begins a generation. The stream must be read to its end or left: one that nobody reads waits,
 * holding its pages, once it is some tokens ahead.
 *
 * @param signal ends it: the next `next()` rejects with `signal.reason`, when what it held is free
 * @throws {EmptyPromptError}, {@link TokenIdError}, {@link PromptTooLongError}, {@link CacheTooSmallError},
 *   {@link GenerationOptionError}, {@link SamplingParameterError}, {@link QueueFullError}, {@link NoRoomError}: at once, before anything is queued
 */
export function generate(
  context: GenerationContext,
  request: GenerationRequest,
  signal?: AbortSignal,
  parts: AnswerParts = {},
): GenerationStream {
  signal?.throwIfAborted();
  const record = makeRecord(context, request, parts);
  const ticket = submit(context, record);
  if (parts.constraint) parts.constraint.onReady = () => ticket.resume();
  return new AnswerStream(record, ticket, signal);
}

/** How the answer's tokens are found. */
function submit({ scheduler, speculator, speculate }: GenerationContext, record: AnswerRecord): Ticket {
  const { guidance, beams, speculate: asked } = record.options.strategy;
  if (guidance) return scheduler.submit(new GuidedAnswer(record, guidance.scale, Int32Array.from(guidance.negative)));
  if (beams) return scheduler.submit(new BeamAnswer(record, beams));
  const speculation = planSpeculation(asked ?? speculate, speculator.draft !== null);
  // What a constraint allows is known one token ahead.
  if (!speculation || record.constraint) return scheduler.submit(new AnswerJob(record));
  const job = new SpeculativeAnswer(record, speculator.proposerFor(record, speculation), speculation.tokens);
  const ticket = scheduler.submit(job);
  speculator.add(job);
  const leave = () => speculator.remove(job);
  ticket.done.then(leave, leave);
  return ticket;
}

function makeRecord(
  { scheduler, tokenizer, defaults }: GenerationContext,
  request: GenerationRequest,
  { constraint, text }: AnswerParts,
): AnswerRecord {
  const { spec } = scheduler.runtime;
  const prompt = checkIds(request.ids, spec.vocabSize);
  const eosIds = [...new Set([...spec.eosIds, ...tokenizer.eosIds])];
  const options = resolveOptions(request.options ?? {}, defaults, spec, eosIds);
  checkStrategy(options.strategy, { constrained: constraint !== undefined, promptLogprobs: options.promptLogprobs !== null });
  const limit = answerLimit(scheduler, prompt, options);
  if (constraint && request.options?.ignoreEos)
    throw new GenerationOptionError("ignoreEos does not go with a constraint", {
      hint: "Leave it out: a constrained answer ends where the constraint is satisfied.",
    });
  const stream = text ?? tokenizer.stream({ continuation: request.continuation ?? false });
  return new AnswerRecord(prompt, limit, options, stream, (id) => tokenizer.bytes(id), constraint);
}

/** Most tokens of the answer. Without maxTokens it may take what there is; what was asked for must fit as asked. */
function answerLimit(scheduler: Scheduler, prompt: Int32Array, { maxTokens, strategy }: ResolvedOptions): number {
  const { spec, plan } = scheduler.runtime;
  const { context } = plan.run;
  const prompts = [
    prompt,
    ...(strategy.guidance ? [checkIds(strategy.guidance.negative, spec.vocabSize, "the negative prompt")] : []),
  ];
  const longest = Math.max(...prompts.map(({ length }) => length));
  if (longest >= context) throw new PromptTooLongError(longest, context);
  const room = context - longest;
  if (maxTokens !== null) return Math.min(room, maxTokens);
  const { beams } = strategy;
  const demand = beams ? { width: beams.count, shared: longest, apart: beams.length } : { width: prompts.length, shared: 0 };
  return Math.max(1, Math.min(room, scheduler.longestOf(demand) - longest));
}

/** Reads a stream to its end. */
export async function readToEnd(stream: GenerationStream, onEvent: (event: GenerationEvent) => void): Promise<GenerationResult> {
  for (;;) {
    const step = await stream.next();
    if (!step.done) onEvent(step.value);
    else if (step.value) return step.value;
    else throw new GenerationLeftError();
  }
}

class AnswerStream implements GenerationStream {
  readonly #record: AnswerRecord;
  readonly #ticket: Ticket;
  readonly #signal: AbortSignal | undefined;
  /** The signal matters no more. */
  readonly #leave: () => void;
  /** One `next()` after the other, as callers may not wait. */
  #turn: Promise<unknown> = Promise.resolve();
  #over: "complete" | "left" | { readonly error: unknown } | null = null;
  #changed: () => void = () => {};

  constructor(record: AnswerRecord, ticket: Ticket, signal: AbortSignal | undefined) {
    this.#record = record;
    this.#ticket = ticket;
    this.#signal = signal;
    record.onReadable = () => this.#changed();
    this.#leave = onAbort(signal, () => this.#abort());
    ticket.done.then(
      () => this.#end("complete"),
      (error: unknown) => this.#end({ error }),
    );
  }

  [Symbol.asyncIterator](): GenerationStream {
    return this;
  }

  next(): Promise<Step> {
    const answer = this.#turn.then(() => this.#next());
    this.#turn = answer.catch(() => {});
    return answer;
  }

  async return(): Promise<Step> {
    if (this.#over === null) this.#end("left");
    await this.#ticket.cancel();
    return { done: true, value: undefined };
  }

  async #next(): Promise<Step> {
    for (;;) {
      if (this.#over === "left") return { done: true, value: undefined };
      if (this.#over !== null && this.#over !== "complete") throw this.#over.error;
      const wasPaused = this.#record.paused;
      const event = this.#record.read();
      if (wasPaused) this.#ticket.resume();
      if (event) return { done: false, value: event };
      if (this.#over === "complete") return { done: true, value: this.#record.result() };
      await new Promise<void>((resolve) => {
        this.#changed = resolve;
      });
    }
  }

  #abort(): void {
    void this.#ticket.cancel().then(() => this.#end({ error: this.#signal?.reason }));
  }

  /** The first reason stays. */
  #end(how: "complete" | "left" | { readonly error: unknown }): void {
    this.#leave();
    if (this.#over !== null) return;
    const aborted = how === "complete" && this.#signal?.aborted;
    this.#over = aborted ? { error: this.#signal?.reason } : how;
    this.#changed();
  }
}
