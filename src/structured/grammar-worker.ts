// The engine's side of the grammar worker: matchers that answer within a step where they can,
// and later where they cannot. A worker that aborts, dies or takes too long is ended; the
// matcher that it was busy with fails, and the others go on in a new worker, which is told
// what they had accepted.

import { Worker } from "node:worker_threads";
import { distFile } from "../paths.js";
import type { Board } from "./board.js";
import type { ConstraintSource, FromGrammarWorker, ToGrammarWorker, TokenBytes, WorkerFailure } from "./messages.js";
import { WorkerMatcher } from "./worker-matcher.js";

/** What a worker may take. */
export interface WorkerLimits {
  /** To start and to compile a constraint, ms. */
  readonly open: number;
  /** For one token, ms. */
  readonly accept: number;
  /** Of memory for grammars, bytes. */
  readonly memory: number;
}
const LIMITS: WorkerLimits = { open: 10_000, accept: 2_000, memory: 512 * 2 ** 20 };
const WATCH_MS = 250;

/** How long a step waits for a mask, ms; one takes about 0.1. */
const PATIENCE_MS = 3;

const LARGEST_HEAP_MB = 512;

interface Command {
  readonly matcher: WorkerMatcher;
  readonly kind: "open" | "accept";
  /** It is answered when the board counts this many. */
  readonly board: Board;
  readonly number: number;
  since: number;
}

export class GrammarWorker {
  readonly #tokens: TokenBytes;
  readonly #limits: WorkerLimits;
  readonly #matchers = new Map<number, WorkerMatcher>();
  #worker: Worker | null = null;
  #watch: NodeJS.Timeout | null = null;
  #nextNumber = 0;
  /** What it has been told and has not answered, in order. */
  #commands: Command[] = [];
  /** A step has waited in vain: the next ones do not, until something is answered. */
  #late = false;

  constructor(tokens: TokenBytes, limits: WorkerLimits = LIMITS) {
    this.#tokens = tokens;
    this.#limits = limits;
  }

  /** A matcher of its own for one answer; ready when it resolves. @throws {ConstraintError} */
  async open(source: ConstraintSource): Promise<WorkerMatcher> {
    const matcher = this.#prepare(source);
    this.#order(matcher, "open");
    await matcher.answered();
    return matcher;
  }

  /** Ends the worker and fails what is open. */
  async close(): Promise<void> {
    for (const matcher of [...this.#matchers.values()]) matcher.fail(failure("the engine is being closed"));
    this.#matchers.clear();
    this.#commands = [];
    const worker = this.#worker;
    this.#worker = null;
    this.#rest();
    worker?.removeAllListeners();
    await worker?.terminate();
  }

  /** @internal */
  accept(matcher: WorkerMatcher, what: number | string): void {
    this.#order(matcher, "accept", what);
  }

  /** @internal Whether the matcher has answered everything; waits a moment for it, while that has not been in vain. */
  hasAnswered(matcher: WorkerMatcher): boolean {
    const answered = matcher.board.hasAnswered(matcher.commands, this.#late ? 0 : PATIENCE_MS);
    if (!answered) this.#late = true;
    return answered;
  }

  /** @internal Whether nobody else's questions are under way. */
  isAlone(matcher: WorkerMatcher): boolean {
    this.#forgetAnswered();
    return this.#commands.every((command) => command.matcher === matcher);
  }

  /** @internal */
  release(matcher: WorkerMatcher): void {
    if (!this.#matchers.delete(matcher.number)) return;
    this.#send({ type: "close", matcher: matcher.number });
  }

  #prepare(source: ConstraintSource): WorkerMatcher {
    const matcher = new WorkerMatcher(this, this.#nextNumber++, source, this.#tokens.offsets.length - 1);
    this.#matchers.set(matcher.number, matcher);
    return matcher;
  }

  #order(matcher: WorkerMatcher, kind: "open" | "accept", what?: number | string): void {
    this.#forgetAnswered();
    const { number, source, board, accepted } = matcher;
    this.#commands.push({ matcher, kind, board, number: ++matcher.commands, since: performance.now() });
    if (kind === "open") this.#send({ type: "open", matcher: number, source, board: board.shared, accepted });
    else this.#send({ type: "accept", matcher: number, what: what! });
    this.#watch ??= setInterval(() => this.#look(), WATCH_MS).unref();
  }

  #send(message: ToGrammarWorker): void {
    if (!this.#worker && message.type === "close") return;
    this.#worker ??= this.#start();
    this.#worker.postMessage(message);
  }

  #start(): Worker {
    const worker = new Worker(distFile("structured/worker.js"), {
      name: "exllama grammars",
      execArgv: [],
      workerData: { tokens: this.#tokens, memory: this.#limits.memory },
      resourceLimits: { maxOldGenerationSizeMb: LARGEST_HEAP_MB },
      stdout: true,
      stderr: true,
    });
    worker.unref();
    worker.stdout.resume();
    worker.stderr.resume();
    worker.on("message", (message: FromGrammarWorker) => this.#hear(message));
    const gone = (error?: unknown) => {
      if (this.#worker === worker) this.#restart(failure(`the grammar worker ended${error ? `: ${String(error)}` : ""}`));
    };
    worker.on("error", gone);
    worker.on("exit", () => gone());
    return worker;
  }

  #hear(message: FromGrammarWorker): void {
    this.#late = false;
    const matcher = this.#matchers.get(message.matcher);
    if (message.type === "failed") {
      matcher?.fail(message.failure);
      this.#matchers.delete(message.matcher);
      if (message.fatal) this.#restart(null);
    } else matcher?.hear();
    this.#forgetAnswered();
  }

  /** Looks for a command that takes too long. */
  #look(): void {
    this.#forgetAnswered();
    const [oldest] = this.#commands;
    if (!oldest) {
      this.#rest();
      return;
    }
    const took = performance.now() - oldest.since;
    if (took > this.#limits[oldest.kind])
      this.#restart(
        oldest.kind === "open"
          ? failure(`the constraint takes more than ${this.#limits.open / 1000} s to compile`, "Make it smaller, or less nested.")
          : failure(
              `the constraint takes more than ${this.#limits.accept / 1000} s for one token`,
              "A grammar that can read one text in many ways is slow: make it unambiguous.",
            ),
      );
  }

  #forgetAnswered(): void {
    while (this.#commands[0]?.board.hasAnswered(this.#commands[0].number, 0)) {
      this.#commands.shift();
      const [next] = this.#commands;
      if (next) next.since = performance.now();
    }
  }

  /** @param blame what the matcher fails with that the worker was busy with; `null`: it has failed already */
  #restart(blame: WorkerFailure | null): void {
    const worker = this.#worker;
    this.#worker = null;
    worker?.removeAllListeners();
    void worker?.terminate();
    const [current] = this.#commands;
    if (blame && current) {
      current.matcher.fail(blame);
      this.#matchers.delete(current.matcher.number);
    }
    this.#commands = [];
    for (const matcher of this.#matchers.values()) {
      matcher.renew();
      this.#order(matcher, "open");
    }
  }

  #rest(): void {
    if (this.#watch) clearInterval(this.#watch);
    this.#watch = null;
  }
}

function failure(message: string, hint: string | null = null): WorkerFailure {
  return { message, hint, details: {} };
}
