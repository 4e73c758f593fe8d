// What is to be measured: one row of the report each, as llama-bench names them, and what a model
// has to be loaded with so that all of them fit.

import { UsageError } from "../../errors.js";
import { PAGE_TOKENS } from "../../memory/plan.js";

/** A prompt of so many tokens, of which nothing is in the cache. */
export interface PromptRow {
  readonly kind: "prompt";
  readonly tokens: number;
}

/** So many tokens that each of `batch` sequences gets after a prompt of `depth` tokens. */
export interface DecodeRow {
  readonly kind: "decode";
  /** The first comes with the prompt: `tokens − 1` steps are timed. */
  readonly tokens: number;
  readonly depth: number;
  readonly batch: number;
}

export type BenchRow = PromptRow | DecodeRow;

/** As lists of the command line; 0 among `prompt`, or `tokens` of 0: none of these rows. */
export interface RowLists {
  readonly prompt: readonly number[];
  readonly tokens: number;
  readonly depth: readonly number[];
  readonly batch: readonly number[];
}

/** @throws {UsageError} where nothing is left to measure, or a number can be none */
export function rowsOf({ prompt, tokens, depth, batch }: RowLists): BenchRow[] {
  if (tokens === 1)
    throw new UsageError("one token is no decoding: it comes with the prompt", { hint: "Use --tokens 2 or more." });
  if (batch.includes(0)) throw new UsageError("a batch of no sequences", { expected: "--batch 1,8,32" });
  const prompts = prompt.filter((length) => length > 0).map((length): PromptRow => ({ kind: "prompt", tokens: length }));
  const decodes = (tokens === 0 ? [] : batch).flatMap((rows) =>
    depth.map((held): DecodeRow => ({ kind: "decode", tokens, depth: held, batch: rows })),
  );
  const rows = [...prompts, ...decodes];
  if (rows.length === 0) throw new UsageError("nothing to measure", { hint: "Leave out --prompt 0 or --tokens 0." });
  return rows;
}

/** `pp 512`, `tg 128 @ 1920`, `tg 32 @ 240 × 8`. */
export function rowName(row: BenchRow): string {
  if (row.kind === "prompt") return `pp ${row.tokens}`;
  const name = `tg ${row.tokens} @ ${row.depth}`;
  return row.batch === 1 ? name : `${name} × ${row.batch}`;
}

/** Tokens of a prompt: no sequence is empty. */
export function promptLength({ depth }: DecodeRow): number {
  return Math.max(1, depth);
}

/**
 * Most tokens of each sequence's answer: beside those that count, those that the first sequences
 * get while prompts of the others are still being computed.
 *
 * @param prefillChunk most tokens of a step; those that decode take theirs first
 */
export function answerLength(row: DecodeRow, prefillChunk: number): number {
  if (row.batch === 1) return row.tokens;
  const room = Math.max(prefillChunk - row.batch, prefillChunk / 4);
  return row.tokens + Math.ceil((row.batch * promptLength(row)) / room) + 2;
}

export interface RowNeeds {
  /** Tokens of the longest sequence. */
  readonly context: number;
  /** Whole pages of all sequences that run at once, in tokens. */
  readonly cacheTokens: number;
  readonly maxSequences: number;
}

/** What a model must be loaded with. */
export function needsOf(rows: readonly BenchRow[], prefillChunk: number): RowNeeds {
  const needs = rows.map((row) => {
    const length = row.kind === "prompt" ? row.tokens + 1 : promptLength(row) + answerLength(row, prefillChunk);
    const batch = row.kind === "prompt" ? 1 : row.batch;
    return { length, batch, held: batch * Math.ceil(length / PAGE_TOKENS) * PAGE_TOKENS };
  });
  const most = (of: (need: (typeof needs)[number]) => number) => Math.max(...needs.map(of));
  return {
    context: most(({ length }) => length),
    cacheTokens: most(({ held }) => held),
    maxSequences: most(({ batch }) => batch),
  };
}

/** @throws {UsageError} where a loaded model cannot hold them */
export function checkFit(rows: readonly BenchRow[], run: RowNeeds & { readonly prefillChunk: number }): void {
  for (const row of rows) {
    const { context, cacheTokens, maxSequences } = needsOf([row], run.prefillChunk);
    const too = (what: string, needed: number, had: number, hint: string) => {
      if (needed > had) throw new UsageError(`${rowName(row)} does not fit ${what} of ${had}: it needs ${needed}`, { hint });
    };
    too("the context", context, run.context, "Use a larger --ctx, or smaller --prompt, --depth and --tokens.");
    too("the cache", cacheTokens, run.cacheTokens, "Use a larger --cache-tokens, or a smaller --batch.");
    too("the sequences", maxSequences, run.maxSequences, "Use a larger --max-sequences, or a smaller --batch.");
  }
}
