// Answers under way: how many there may be, and what ends one early. Every request that makes the
// model compute holds places here (one for each of its sequences) from its first check to its last
// byte, and gets a signal that is aborted when its client goes away, its time is over, or the
// server has waited long enough for it while shutting down.

import type { Context } from "hono";
import type { Model } from "../engine/model.js";
import type { AppEnv } from "./app-env.js";
import { AnswerTimeoutError, ClientGoneError, InvalidRequestError, QueueFullError, ShuttingDownError } from "./errors.js";
import type { ModelSource } from "./model-source.js";

export interface AnsweringOptions {
  readonly models: ModelSource;
  /** Sequences that may run or wait at once. */
  readonly places: number;
  /** Longest that one answer may take, ms; `null` = no limit. */
  readonly timeoutMs: number | null;
}

/** Answers that recent waits are guessed from. */
const SMOOTHING = 0.1;

export class Answering {
  readonly #models: ModelSource;
  readonly #timeoutMs: number | null;
  readonly #open = new Set<AnswerScope>();
  readonly places: number;
  #taken = 0;
  #closed = false;
  #idle: () => void = () => {};
  /** How long a sequence took lately, ms. */
  #usualMs = 1000;

  constructor({ models, places, timeoutMs }: AnsweringOptions) {
    this.#models = models;
    this.#timeoutMs = timeoutMs;
    this.places = places;
  }

  /** Sequences that run or wait now. */
  get taken(): number {
    return this.#taken;
  }

  /**
   * Begins an answer; its `end()` must be called when nothing of it is left.
   *
   * @param sequences how many it computes at once
   * @throws {QueueFullError | InvalidRequestError | ShuttingDownError | ModelReloadingError}
   */
  begin(context: Context<AppEnv>, sequences: number): AnswerScope {
    if (this.#closed) throw new ShuttingDownError();
    if (sequences > this.places)
      throw new InvalidRequestError(`the request asks for ${sequences} answers at once; the server has ${this.places} places`, {
        code: "TOO_MANY_SEQUENCES",
        hint: "Send fewer prompts or a smaller 'n'; --max-waiting sets the limit.",
      });
    if (this.#taken + sequences > this.places) throw new QueueFullError(this.#taken, Math.min(60, this.#usualMs / 1000));
    const model = this.#models.current();
    this.#taken += sequences;
    const begun = performance.now();
    const scope = new AnswerScope(model, context.req.raw.signal, this.#timeoutMs, {
      failed: (error) => this.#models.failed(model, error),
      ended: () => {
        this.#open.delete(scope);
        this.#taken -= sequences;
        this.#usualMs += SMOOTHING * (performance.now() - begun - this.#usualMs);
        if (this.#open.size === 0) this.#idle();
      },
    });
    this.#open.add(scope);
    return scope;
  }

  /** Takes no more answers, and waits for those under way; after `graceMs` they fail. */
  async close(graceMs: number): Promise<void> {
    this.#closed = true;
    if (this.#open.size === 0) return;
    const idle = new Promise<void>((resolve) => {
      this.#idle = resolve;
    });
    const timer = setTimeout(() => {
      for (const scope of [...this.#open]) scope.abort(new ShuttingDownError());
    }, graceMs);
    await idle;
    clearTimeout(timer);
  }
}

interface ScopeHooks {
  readonly failed: (error: unknown) => void;
  readonly ended: () => void;
}

export class AnswerScope {
  readonly model: Model;
  readonly signal: AbortSignal;
  readonly #controller = new AbortController();
  readonly #client: AbortSignal;
  readonly #timer: NodeJS.Timeout | undefined;
  readonly #hooks: ScopeHooks;
  #ended = false;

  constructor(model: Model, client: AbortSignal, timeoutMs: number | null, hooks: ScopeHooks) {
    this.model = model;
    this.signal = this.#controller.signal;
    this.#client = client;
    this.#hooks = hooks;
    client.addEventListener("abort", this.#gone, { once: true });
    if (client.aborted) this.#gone();
    if (timeoutMs !== null) this.#timer = setTimeout(() => this.abort(new AnswerTimeoutError(timeoutMs)), timeoutMs);
  }

  /** Ends it early: what it computes is freed, and it fails with this reason. */
  abort(reason: Error): void {
    this.#controller.abort(reason);
  }

  /** Nobody is there to read it. */
  readonly #gone = (): void => this.abort(new ClientGoneError());

  /** Why it failed, for the client; the model is looked after if it is the cause. */
  failure(error: unknown): unknown {
    this.#hooks.failed(error);
    return this.signal.aborted ? this.signal.reason : error;
  }

  /** Gives its places back. Idempotent. */
  end(): void {
    if (this.#ended) return;
    this.#ended = true;
    clearTimeout(this.#timer);
    this.#client.removeEventListener("abort", this.#gone);
    this.#hooks.ended();
  }
}
