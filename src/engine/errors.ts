// What can go wrong between a program and its engine, beside what the engine itself reports.

import { ExllamaError } from "../errors.js";

/** How an engine ended, as far as its operating system or runtime tells. */
export interface EngineEnd {
  readonly kind: "process" | "thread";
  /** Process id, `null` for a thread. */
  readonly pid: number | null;
  readonly exitCode: number | null;
  /** Name of the signal that killed the process, or `null`. */
  readonly signal: string | null;
  /** The last lines that the engine wrote to its standard error. */
  readonly stderr: string;
}

/**
 * The engine's process was killed or crashed: every request in flight ends with this error, its
 * memory is free, and the same program can load again. `details` is the {@link EngineEnd}.
 */
export class EngineDiedError extends ExllamaError {
  constructor(end: EngineEnd) {
    const who = end.pid === null ? `the engine's ${end.kind}` : `the engine's ${end.kind} (pid ${end.pid})`;
    const how = end.signal ? `was killed by ${end.signal}` : `ended with exit code ${end.exitCode ?? "unknown"}`;
    super("ENGINE_DIED", `${who} ${how}${end.stderr ? `; it wrote:\n${end.stderr}` : ""}`, {
      hint:
        end.signal === "SIGKILL"
          ? "load the model again; if nobody killed it, the system ran out of memory: plan a smaller --ctx or --cpu-memory"
          : "load the model again; its memory has been given back",
      details: { ...end },
    });
  }
}

/** A model was used after `dispose()`, or disposed of while a request was in flight. */
export class ModelDisposedError extends ExllamaError {
  constructor(source: string) {
    super("MODEL_DISPOSED", `the model ${source} has been disposed of`, { hint: "load it again with loadModel()" });
  }
}

/** `result` of a generation whose loop was left early. */
export class GenerationCancelledError extends ExllamaError {
  constructor() {
    super("GENERATION_CANCELLED", "the generation was cancelled: its loop was left before the end");
  }
}

/** GPUs were asked for where none are looked for. */
export class BackendUnavailableError extends ExllamaError {
  constructor(backend: string, askedBy: string) {
    super("BACKEND_UNAVAILABLE", `${askedBy} asks for the ${backend} backend, and there is no such device to use here`, {
      hint: "leave it out to run on the CPU; to plan for GPUs describe them by size, such as --devices 24GiB,24GiB",
      details: { backend },
    });
  }
}

/** A draft model with other tokens than the model's: its guesses would be of another language. */
export class DraftMismatchError extends ExllamaError {
  constructor(source: string, difference: string) {
    super("DRAFT_MISMATCH", `the draft model ${source} has another vocabulary than the model: ${difference}`, {
      hint: "use a smaller model of the same family, made with the same tokenizer, or leave the draft out",
    });
  }
}
