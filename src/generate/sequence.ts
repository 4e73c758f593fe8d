// What the scheduler runs. A job says which ids it begins with and what it wants of each
// position; a sequence is a job with its place in the KV cache. Generation and scoring are
// jobs, and so can be what comes later (beams, guidance, speculation).

import type { BatchEntry, Output, OutputRequest } from "../backend/backend.js";
import { IdBuffer } from "./id-buffer.js";
import type { CacheLease } from "./kv-cache.js";

export interface SequenceJob {
  /** At least one id. */
  readonly prompt: Int32Array;
  /** Most positions that it will ever feed: what the cache reserves for it. */
  readonly positions: number;
  /** The KV of so many leading ids may come from an earlier sequence; what follows must be computed. */
  readonly reusable: number;
  /** Whether its KV may serve a later request that begins alike. */
  readonly keep: boolean;
  /** While true the sequence waits: nobody reads what it says. */
  readonly paused: boolean;
  /** It runs from now on; the KV of `reused` leading ids was there. */
  begin(reused: number): void;
  /**
   * What it wants of the step that feeds `ids[start … end − 1]`.
   *
   * @param ids all ids so far; the view is valid during the step only
   */
  outputs(start: number, end: number, ids: Int32Array): OutputRequest[];
  /**
   * Takes what it asked for.
   *
   * @returns the id that follows, or `null`: then the sequence is complete once all ids are fed
   */
  accept(outputs: readonly Output[]): number | null;
}

/** A job that runs: fed up to `fed`, the rest of its ids is still to be fed. */
export class Sequence {
  readonly job: SequenceJob;
  readonly lease: CacheLease;
  readonly #ids: IdBuffer;
  #fed: number;

  constructor(job: SequenceJob, lease: CacheLease) {
    this.job = job;
    this.lease = lease;
    this.#ids = new IdBuffer(job.prompt);
    this.#fed = lease.reused;
  }

  /** Positions whose KV is complete. */
  get fed(): number {
    return this.#fed;
  }

  /** Ids that can be fed now. */
  get remaining(): number {
    return this.#ids.length - this.#fed;
  }

  get complete(): boolean {
    return this.remaining === 0;
  }

  /** Ids whose KV is complete. */
  get fedIds(): Int32Array {
    return this.#ids.view(0, this.#fed);
  }

  /** The step's part that feeds everything up to `end`; its pages must have been prepared. */
  entry(end: number): BatchEntry {
    const { prompt } = this.job;
    const start = this.#fed;
    return {
      tokens: this.#ids.view(start, end),
      start,
      ropeLength: start < prompt.length ? prompt.length : start + 1,
      pages: this.lease.pages.views(end),
      outputs: this.job.outputs(start, end, this.#ids.view(0, end)),
    };
  }

  /** The step is over: everything up to `end` is fed. */
  advance(end: number, outputs: readonly Output[]): void {
    this.#fed = end;
    const next = this.job.accept(outputs);
    if (next !== null) this.#ids.push(next);
  }
}
