// What the engine and its grammar worker say to each other. Commands go as messages, in order;
// each is answered in shared memory, so that the engine can pick an answer up between two
// steps without waiting for its event loop.

import type { Constraint } from "./constraint.js";

/** What a matcher can be made of: a request's constraint, or calls of tools. */
export type ConstraintSource = Constraint | CallsSource;

/** One or several of the calls, between what begins and ends them. */
export interface CallsSource {
  readonly kind: "calls";
  readonly before: readonly CallPart[];
  readonly calls: readonly (readonly CallPart[])[];
  /** Stands between calls; `null`: there is one call only. */
  readonly separator: readonly CallPart[] | null;
  readonly after: readonly CallPart[];
}

/** Text, a special token, or a JSON value. */
export type CallPart = string | { readonly marker: string } | { readonly schema: unknown; readonly strict: boolean };

/** A vocabulary as bytes: token i is `bytes[offsets[i] … offsets[i + 1])`; empty: never allowed. */
export interface TokenBytes {
  readonly bytes: Uint8Array;
  /** `[tokens + 1]` */
  readonly offsets: Uint32Array;
  /** Ids that end an answer: allowed where the constraint is satisfied. */
  readonly stopIds: readonly number[];
}

export type ToGrammarWorker =
  | {
      readonly type: "open";
      readonly matcher: number;
      readonly source: ConstraintSource;
      readonly board: SharedArrayBuffer;
      /** What it has accepted already. */
      readonly accepted: readonly (number | string)[];
    }
  | { readonly type: "accept"; readonly matcher: number; readonly what: number | string }
  | { readonly type: "close"; readonly matcher: number };

export interface WorkerFailure {
  readonly message: string;
  readonly hint: string | null;
  readonly details: Readonly<Record<string, unknown>>;
}

export type FromGrammarWorker =
  /** A matcher that somebody waits for has answered. */
  | { readonly type: "answered"; readonly matcher: number }
  /** `fatal`: the worker is of no use any more. */
  | { readonly type: "failed"; readonly matcher: number; readonly fatal: boolean; readonly failure: WorkerFailure };
