// An answer that is free until it begins to call a tool: from the call's mark to its end it is
// constrained, then free again. What came with the mark (a token may hold more than the mark)
// is told to the matcher as text; where that does not fit, the call is left unconstrained.

import type { ConstraintError } from "./errors.js";
import type { WorkerMatcher } from "./worker-matcher.js";

/** Watches the answer's tokens for the beginning of a call. */
export interface CallWatch {
  /** @returns what of the call has come already, `null` while none begins */
  push(id: number): string | null;
}

export interface ToolConstraintOptions {
  readonly watch: CallWatch;
  /** Opens a matcher for one call, from behind its mark to its end. */
  readonly open: () => Promise<WorkerMatcher>;
  /** The answer ends with the first call. */
  readonly once: boolean;
}

export class ToolConstraint {
  onReady: () => void = () => {};
  readonly #options: ToolConstraintOptions;
  /** The next call's. */
  #spare: WorkerMatcher | null;
  /** This call's, once it has begun. */
  #matcher: WorkerMatcher | null = null;
  /** Waiting for a matcher, with what the call has said. */
  #opening: (number | string)[] | null = null;
  #failure: unknown = null;
  #complete = false;
  #closed = false;

  /** @param first opened already, so that what cannot be compiled is refused before the answer begins */
  constructor(first: WorkerMatcher, options: ToolConstraintOptions) {
    this.#spare = first;
    this.#options = options;
  }

  get ready(): boolean {
    if (this.#failure) return true;
    return this.#opening === null && (this.#matcher === null || this.#matcher.ready);
  }

  get complete(): boolean {
    this.#settle();
    return this.#complete;
  }

  /** @throws what a matcher could not be opened for */
  mask(): Uint32Array | null {
    if (this.#failure) throw this.#failure;
    this.#settle();
    return this.#matcher?.mask() ?? null;
  }

  accept(id: number): void {
    this.#settle();
    if (this.#opening) this.#opening.push(id);
    else if (this.#matcher) this.#matcher.accept(id);
    else {
      const begun = this.#options.watch.push(id);
      if (begun !== null) this.#begin(begun);
    }
  }

  /** Lets go of what is held in the worker. Idempotent. */
  close(): void {
    this.#closed = true;
    this.#spare?.close();
    this.#matcher?.close();
  }

  #begin(said: string): void {
    const spare = this.#spare;
    this.#spare = null;
    if (spare) this.#constrain(spare, said === "" ? [] : [said]);
    else {
      this.#opening = said === "" ? [] : [said];
      void this.#options.open().then(
        (matcher) => {
          const accepted = this.#opening ?? [];
          this.#opening = null;
          if (this.#closed) matcher.close();
          else this.#constrain(matcher, accepted);
          this.onReady();
        },
        (error: ConstraintError) => {
          this.#failure = error;
          this.onReady();
        },
      );
    }
  }

  #constrain(matcher: WorkerMatcher, accepted: readonly (number | string)[]): void {
    matcher.onReady = () => this.onReady();
    for (const what of accepted) matcher.accept(what);
    this.#matcher = matcher;
  }

  /** A call that is over, or never was one, leaves the answer free. */
  #settle(): void {
    const matcher = this.#matcher;
    if (!matcher || !(matcher.failure || matcher.complete)) return;
    this.#complete = this.#options.once && !matcher.failure;
    this.#matcher = null;
    matcher.close();
  }
}
