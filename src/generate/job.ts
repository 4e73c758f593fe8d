// What the scheduler runs. A job owns one or more strands: sequences of ids that share nothing
// but what the job does with them. It says what it wants of each position that is fed, is told
// after every step what its strands said, and then moves them: appends the ids to feed next,
// takes back ids that did not stand, parts a strand in two, drops one. A plain answer has one
// strand and appends one id at a time; guidance has two that are fed the same answer; beams
// part and drop; speculation appends several ids at once and takes the wrong ones back.
//
// A job is over when none of its strands has anything left to feed.

import type { Output, OutputRequest } from "../backend/backend.js";
import type { AdapterUse } from "../model/adapter.js";

/** A sequence as its job moves it. Only between steps: in `begin`, in `accept`, or from the scheduler's `propose`. */
export interface Strand {
  /** All ids, those still to be fed included; the view is valid until the strand is moved. */
  readonly ids: Int32Array;
  /** So many of them are its job's prompt. */
  readonly promptLength: number;
  /** Positions whose KV is complete. */
  readonly fed: number;
  /** Ids still to be fed. */
  readonly remaining: number;
  /** Positions whose KV was there already and did not have to be computed. */
  readonly reused: number;
  /** Ids to feed next. */
  append(...ids: number[]): void;
  /** Forgets all ids from `length` on, and their KV. The prompt stays. */
  truncate(length: number): void;
  /** A second strand with the same ids and KV. Whole pages are shared, the last one is copied when either goes on. */
  fork(): Strand;
  /** Gives its pages back; it is not to be used any more. */
  drop(): void;
}

/** What a strand begins with. */
export interface JobPrompt {
  /** At least one id. */
  readonly ids: Int32Array;
  /** The KV of so many leading ids may come from elsewhere; what follows must be computed. Below the number of ids. */
  readonly reusable: number;
}

/** What a strand said in a step: one output for each that was asked of it, in order. */
export interface StrandAnswer {
  readonly strand: Strand;
  /** Positions start … end − 1 were fed; a prompt comes in several parts. */
  readonly start: number;
  readonly end: number;
  readonly outputs: readonly Output[];
}

export interface Job {
  /** Each begins a strand. */
  readonly prompts: readonly JobPrompt[];
  /** Most strands it has at once; each takes one of the plan's places. */
  readonly width: number;
  /** Most positions that any of its strands will ever feed: with `width`, what the cache reserves for it. */
  readonly positions: number;
  /** So many leading positions are the same in all its strands, which have one prompt: their pages count once. */
  readonly shared: number;
  /** Its strands differ in the last so many positions at most; default: in all that they do not share. */
  readonly apart?: number;
  /** Whether its KV may serve a later request that begins alike. */
  readonly keep: boolean;
  /** What its KV depends on beside its ids (adapters): only jobs of the same condition share pages. */
  readonly condition: string;
  /** What its strands are computed with; missing: the model itself. `condition` is their adapterCondition(). */
  readonly adapters?: readonly AdapterUse[];
  /** Tokens generated so far, for the counters. */
  readonly generated: number;
  /** While true it takes no part in steps: nobody reads what it says. */
  readonly paused: boolean;
  /** It runs from now on: a strand for each prompt. */
  begin(strands: readonly Strand[]): void;
  /**
   * What it wants of the step that feeds `strand.ids[start … end − 1]`; indices count from `start`.
   * A position is asked about again only where the step failed, and not when its KV alone has to
   * be computed again.
   */
  outputs(strand: Strand, start: number, end: number): OutputRequest[];
  /** Called once after each step that fed something new of its strands. What it throws ends it. */
  accept(answers: readonly StrandAnswer[]): void;
}
