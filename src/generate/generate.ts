// A generation from request to result: checked, queued, streamed, ended. The stream is an
// async iterator of pieces whose return value is the result; leaving it early, or aborting,
// ends the sequence, and the promise that says so settles when its pages are free.

import type { SamplingParameters } from "../sampling/parameters.js";
import { AnswerJob } from "./answer-job.js";
import { AnswerRecord, type AnswerText } from "./answer-record.js";
import { GenerationLeftError, GenerationOptionError, PromptTooLongError } from "./errors.js";
import type { Job } from "./job.js";
import { resolveOptions } from "./options.js";
import { checkIds } from "./prompt.js";
import type { GenerationEvent, GenerationRequest, GenerationResult } from "./request.js";
import type { Scheduler, Ticket } from "./scheduler.js";
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
  const ticket = context.scheduler.submit(makeJob(record));
  if (parts.constraint) parts.constraint.onReady = () => ticket.resume();
  return new AnswerStream(record, ticket, signal);
}

/** How the answer's tokens are chosen. */
function makeJob(record: AnswerRecord): Job {
  return new AnswerJob(record);
}

function makeRecord(
  { scheduler, tokenizer, defaults }: GenerationContext,
  request: GenerationRequest,
  { constraint, text }: AnswerParts,
): AnswerRecord {
  const { spec, plan } = scheduler.runtime;
  const prompt = checkIds(request.ids, spec.vocabSize);
  const { context } = plan.run;
  if (prompt.length >= context) throw new PromptTooLongError(prompt.length, context);
  const eosIds = [...new Set([...spec.eosIds, ...tokenizer.eosIds])];
  const options = resolveOptions(request.options ?? {}, defaults, spec, eosIds);
  // Without maxTokens the answer may take what there is; what was asked for must fit as asked.
  const room = context - prompt.length;
  const limit =
    options.maxTokens === null
      ? Math.max(1, Math.min(room, scheduler.longestSequence - prompt.length))
      : Math.min(room, options.maxTokens);
  if (constraint && request.options?.ignoreEos)
    throw new GenerationOptionError("ignoreEos does not go with a constraint", {
      hint: "Leave it out: a constrained answer ends where the constraint is satisfied.",
    });
  const stream = text ?? tokenizer.stream({ continuation: request.continuation ?? false });
  return new AnswerRecord(prompt, limit, options, stream, (id) => tokenizer.bytes(id), constraint);
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
  /** One `next()` after the other, as callers may not wait. */
  #turn: Promise<unknown> = Promise.resolve();
  #over: "complete" | "left" | { readonly error: unknown } | null = null;
  #changed: () => void = () => {};

  constructor(record: AnswerRecord, ticket: Ticket, signal: AbortSignal | undefined) {
    this.#record = record;
    this.#ticket = ticket;
    this.#signal = signal;
    record.onReadable = () => this.#changed();
    signal?.addEventListener("abort", this.#abort, { once: true });
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

  readonly #abort = (): void => {
    void this.#ticket.cancel().then(() => this.#end({ error: this.#signal?.reason }));
  };

  /** The first reason stays. */
  #end(how: "complete" | "left" | { readonly error: unknown }): void {
    this.#signal?.removeEventListener("abort", this.#abort);
    if (this.#over !== null) return;
    const aborted = how === "complete" && this.#signal?.aborted;
    this.#over = aborted ? { error: this.#signal?.reason } : how;
    this.#changed();
  }
}
