// One answer's matcher, as the engine sees it: told each token, it knows which may come next.

import { Board } from "./board.js";
import { ConstraintError } from "./errors.js";
import type { GrammarWorker } from "./grammar-worker.js";
import type { ConstraintSource, WorkerFailure } from "./messages.js";

export class WorkerMatcher {
  readonly number: number;
  readonly source: ConstraintSource;
  /** Tokens, and texts that came before them, so far: what a new worker is told. */
  readonly accepted: (number | string)[] = [];
  /** Commands sent since the board was new. */
  commands = 0;
  /** Called when `ready` has become true after it was false. */
  onReady: () => void = () => {};

  readonly #worker: GrammarWorker;
  readonly #tokens: number;
  #board: Board;
  #failure: ConstraintError | null = null;

  constructor(worker: GrammarWorker, number: number, source: ConstraintSource, tokens: number) {
    this.#worker = worker;
    this.number = number;
    this.source = source;
    this.#tokens = tokens;
    this.#board = Board.forTokens(tokens);
  }

  get board(): Board {
    return this.#board;
  }

  /** Whether what may come next is known. Waits a moment; where that is not enough, `onReady` is called later. */
  get ready(): boolean {
    if (this.#failure) return true;
    if (!this.#worker.hasAnswered(this)) {
      this.#board.wantMessage();
      if (!this.#board.hasAnswered(this.commands, 0)) return false;
    }
    return this.#board.state !== "failed"; // why it has failed comes in a message
  }

  /** Whether nothing more can come, as far as that is known without delaying others. */
  get complete(): boolean {
    if (this.#failure) return false;
    const known = this.#board.hasAnswered(this.commands, 0) || (this.#worker.isAlone(this) && this.#worker.hasAnswered(this));
    return known && this.#board.state === "complete";
  }

  /** Why it cannot go on, if so. */
  get failure(): ConstraintError | null {
    return this.#failure;
  }

  /** Which tokens may come next, when `ready`: bit id % 32 of word id / 32. @throws {ConstraintError} */
  mask(): Uint32Array {
    if (this.#failure) throw this.#failure;
    return new Uint32Array(this.#board.mask);
  }

  /** A token, or a text that stands before the next one. */
  accept(what: number | string): void {
    this.accepted.push(what);
    if (!this.#failure) this.#worker.accept(this, what);
  }

  /** Settles when everything is answered. @throws {ConstraintError} */
  async answered(): Promise<void> {
    const before = this.onReady;
    while (!this.ready)
      await new Promise<void>((resolve) => {
        this.onReady = resolve;
      });
    this.onReady = before;
    if (this.#failure) throw this.#failure;
  }

  /** Lets go of what the worker holds for it. Idempotent. */
  close(): void {
    this.#worker.release(this);
  }

  /** @internal The worker has answered, and was asked to say so. */
  hear(): void {
    this.onReady();
  }

  /** @internal */
  fail({ message, hint, details }: WorkerFailure): void {
    this.#failure ??= new ConstraintError(message, { details, ...(hint === null ? {} : { hint }) });
    this.onReady();
  }

  /** @internal A new worker begins with it anew. */
  renew(): void {
    this.#board = Board.forTokens(this.#tokens);
    this.#board.wantMessage();
    this.commands = 0;
  }
}
