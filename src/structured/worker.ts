// The grammar worker: a thread of the engine in which constraints become grammars, and
// matchers answer which tokens may come next. Nothing it does can stop the engine: what runs
// out of time or memory here, or aborts, ends this thread, and the engine starts another.

import { parentPort, workerData } from "node:worker_threads";
import { ExllamaError } from "../errors.js";
import { Board } from "./board.js";
import { sourceEbnf } from "./compile.js";
import { ConstraintError } from "./errors.js";
import type { FromGrammarWorker, ToGrammarWorker, TokenBytes, WorkerFailure } from "./messages.js";
import { Utf8Filter } from "./utf8-filter.js";
import { type LibraryMatcher, XGrammar } from "./xgrammar.js";

interface OpenMatcher {
  readonly matcher: LibraryMatcher;
  /** Bytes of a character that is not complete yet. */
  unfinished: readonly number[];
}

const port = parentPort;
if (!port) throw new Error("this file is the grammar worker of exllama-ts; the engine starts it");
const { tokens, memory } = workerData as { tokens: TokenBytes; memory: number };

/** The library's last words. */
let fatalLine = "";
console.error = (...parts: unknown[]) => {
  const line = parts.map(String).join(" ");
  if (line.includes("[FATAL]")) fatalLine = line;
};
console.warn = () => {};

const starting = XGrammar.start(tokens, memory);
const boards = new Map<number, Board>();
const matchers = new Map<number, OpenMatcher>();
const filter = new Utf8Filter(tokens);
let poisoned = false;
let turn: Promise<void> = Promise.resolve();

port.on("message", (message: ToGrammarWorker) => {
  turn = turn.then(() => obey(message));
});

async function obey(message: ToGrammarWorker): Promise<void> {
  if (poisoned) return;
  const { matcher: number } = message;
  if (message.type === "close") {
    close(number);
    return;
  }
  if (message.type === "open") boards.set(number, new Board(message.board));
  const board = boards.get(number)!;
  try {
    if (message.type === "open") await open(message, board);
    else await accept(matchers.get(number), board, [message.what]);
  } catch (error) {
    fail(number, board, error);
  }
  if (board.answer()) send({ type: "answered", matcher: number });
}

async function open({ matcher: number, source, accepted }: ToGrammarWorker & { type: "open" }, board: Board): Promise<void> {
  const xgrammar = await starting;
  const matcher = await xgrammar.matcher(JSON.stringify(source), () => sourceEbnf(source));
  const opened: OpenMatcher = { matcher, unfinished: [] };
  matchers.set(number, opened);
  await accept(opened, board, accepted);
}

async function accept(open: OpenMatcher | undefined, board: Board, accepted: readonly (number | string)[]): Promise<void> {
  if (!open) return; // it has failed before
  for (const what of accepted) {
    const taken = typeof what === "number" ? open.matcher.acceptToken(what) : open.matcher._acceptString(what);
    if (!taken) throw new ConstraintError(`the constraint does not allow ${JSON.stringify(what)} here`, { details: { what } });
    open.unfinished = typeof what === "number" ? filter.after(open.unfinished, what) : [];
  }
  const words = await open.matcher.getNextTokenBitmask();
  filter.apply(words, open.unfinished);
  board.write(words, tokens.offsets.length - 1, tokens.stopIds);
  if (board.state === "failed")
    throw new ConstraintError("no token of this model's vocabulary can come next without breaking the constraint");
}

function close(number: number): void {
  matchers.get(number)?.matcher.dispose();
  matchers.delete(number);
  boards.delete(number);
}

function fail(number: number, board: Board, error: unknown): void {
  // After an abort the library's memory is not to be trusted.
  poisoned = !(error instanceof ExllamaError);
  board.fail();
  if (!poisoned) matchers.get(number)?.matcher.dispose();
  matchers.delete(number);
  send({ type: "failed", matcher: number, fatal: poisoned, failure: failureOf(error) });
  fatalLine = "";
}

function failureOf(error: unknown): WorkerFailure {
  if (error instanceof ExllamaError) return { message: error.message, hint: error.hint ?? null, details: error.details };
  const reason = /\[FATAL\] \S+: (?:Check failed: .*? is false: )?(.*)/s.exec(fatalLine)?.[1] ?? lastWords(error as Error);
  return { message: `the grammar cannot be used: ${reason.slice(0, 500)}`, hint: null, details: {} };
}

function lastWords({ name, message }: Error): string {
  return name === "RuntimeError" || name === "RangeError" ? "it needs more memory or nesting than there is" : message;
}

function send(message: FromGrammarWorker): void {
  port!.postMessage(message);
}
