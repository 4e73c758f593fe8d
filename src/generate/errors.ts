// Why a request cannot be run, or why one that ran has ended.

import { ExllamaError, UsageError } from "../errors.js";

/** A prompt without a single id. */
export class EmptyPromptError extends ExllamaError {
  constructor() {
    super("EMPTY_PROMPT", "the prompt is empty: there is nothing to go on from", {
      hint: "Give at least one token, for example the BOS token.",
    });
  }
}

/** A prompt that does not fit the context, or leaves no room for an answer. */
export class PromptTooLongError extends ExllamaError {
  constructor(promptTokens: number, context: number) {
    const problem =
      promptTokens > context
        ? `the prompt has ${promptTokens} tokens, more than the context of ${context}`
        : `the prompt has ${promptTokens} tokens and the context ${context}: no room is left for an answer`;
    super("PROMPT_TOO_LONG", problem, {
      hint: "Shorten the prompt, or load the model with a larger --ctx.",
      details: { promptTokens, context },
    });
  }
}

/** An id that the model has no embedding for. */
export class TokenIdError extends ExllamaError {
  constructor(where: string, id: unknown, vocabSize: number) {
    super("TOKEN_ID", `${where} is ${String(id)}, not an id of this vocabulary of ${vocabSize}`, {
      hint: `Ids are whole numbers from 0 to ${vocabSize - 1}; was the text tokenized for another model?`,
      details: { id: typeof id === "number" ? id : String(id), vocabSize },
    });
  }
}

/** A request that needs more KV pages than the cache has, whatever else runs. */
export class CacheTooSmallError extends ExllamaError {
  constructor(positions: number, neededPages: number, pages: number, pageTokens: number, sequences = 1) {
    const times = sequences === 1 ? "" : ` in each of ${sequences} sequences`;
    super(
      "CACHE_TOO_SMALL",
      `${positions} positions (prompt and answer)${times} need ${neededPages} KV pages of ${pageTokens} tokens; the cache has ${pages}`,
      {
        hint: "Ask for fewer tokens, or load the model with larger --cache-tokens.",
        details: { positions, neededPages, pages },
      },
    );
  }
}

/** A request of more sequences at once (guidance, beams) than the plan has places for. */
export class TooManySequencesError extends ExllamaError {
  constructor(sequences: number, maxSequences: number) {
    super("TOO_MANY_SEQUENCES", `the request runs ${sequences} sequences at once; the model was loaded for ${maxSequences}`, {
      hint: `Load the model with maxSequences (--max-sequences) of at least ${sequences}.`,
      details: { sequences, maxSequences },
    });
  }
}

/** As many requests wait as may. */
export class QueueFullError extends ExllamaError {
  constructor(waiting: number, maxWaiting: number) {
    super("QUEUE_FULL", `${waiting} requests are waiting, and no more than ${maxWaiting} may`, {
      hint: "Try again later, or load the model with a larger maxWaiting.",
      details: { waiting, maxWaiting },
    });
  }
}

/** Nothing waits here (onPressure "refuse"), and there is no room for the request now. */
export class NoRoomError extends ExllamaError {
  constructor(what: string, details: Record<string, unknown>) {
    super("NO_ROOM", `the request cannot start now: ${what}`, {
      hint: 'Try again later, or load the model with onPressure "wait" or "preempt".',
      details,
    });
  }
}

/** An option of a generation that is unknown, of the wrong kind or out of range. */
export class GenerationOptionError extends UsageError {
  constructor(message: string, options: { expected?: string; hint?: string; details?: Record<string, unknown> } = {}) {
    super(message, options);
  }
}

/** The model is being disposed: requests that were waiting or running end with this. */
export class SchedulerClosedError extends ExllamaError {
  constructor() {
    super("SCHEDULER_CLOSED", "the model has been disposed; no request can run on it", {
      hint: "Load the model again.",
    });
  }
}

/** A generation was left before it was complete, so it has no result. */
export class GenerationLeftError extends ExllamaError {
  constructor() {
    super("GENERATION_LEFT", "the generation was left before it was complete: it has no result");
  }
}
