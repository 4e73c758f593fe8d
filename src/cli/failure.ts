// How a failure is told: what happened and what to do, on standard error; with --json as one
// line on standard output. Stacks only for those who ask (EXLLAMA_DEBUG=1), and for errors
// that nobody foresaw.

import { ExllamaError, UsageError } from "../errors.js";
import { InterruptedError } from "./interrupt.js";
import { printJson } from "./output.js";
import { styleFor } from "./style.js";

export const FAILURE_EXIT = 1;
export const USAGE_EXIT = 2;
export const INTERRUPTED_EXIT = 130;

export function exitCodeOf(error: unknown): number {
  if (error instanceof InterruptedError) return INTERRUPTED_EXIT;
  return error instanceof UsageError ? USAGE_EXIT : FAILURE_EXIT;
}

export function reportFailure(error: unknown, { json }: { json: boolean }): void {
  if (error instanceof InterruptedError) return;
  const known = error instanceof ExllamaError;
  const message = error instanceof Error ? error.message : String(error);
  if (json) printJson({ error: { code: known ? error.code : "UNEXPECTED", message, hint: (known && error.hint) || null } });
  if (!json || debugging()) {
    const style = styleFor(process.stderr);
    process.stderr.write(`${style.bad("error:")} ${message}\n`);
    if (known && error.hint) process.stderr.write(`${style.dim("hint:")} ${error.hint}\n`);
    if (debugging() || !known) process.stderr.write(`${stackOf(error)}\n`);
    if (!known) process.stderr.write("This is a defect of exllama-ts: please report it with the lines above.\n");
  }
}

/** A mistake in the arguments that the parser found, for --json. */
export function reportUsage(message: string): void {
  const [first = "", ...rest] = message.split("\n");
  const guess = /^\((Did you mean .*)\)$/.exec(rest.join(" ").trim())?.[1];
  printJson({ error: { code: "USAGE", message: first.replace(/^error: /, ""), hint: guess ?? null } });
}

function debugging(): boolean {
  return Boolean(process.env.EXLLAMA_DEBUG) && process.env.EXLLAMA_DEBUG !== "0";
}

function stackOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const cause = error.cause === undefined ? "" : `\ncaused by: ${stackOf(error.cause)}`;
  return (error.stack ?? error.message) + cause;
}
