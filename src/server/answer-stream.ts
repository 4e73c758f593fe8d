// From answers to a response: whole, or as a stream of events. Both take care that the places the
// request holds are given back however it ends, that failures are told in the way that still can be
// (a status before the first byte, an event behind it), and that everything is counted once.

import type { Context } from "hono";
import type { AnswerFeed } from "./answer-feed.js";
import type { AnswerScope } from "./answering.js";
import type { AppEnv } from "./app-env.js";
import { begunWithin } from "./choices.js";
import { errorReply } from "./error-response.js";
import { ClientGoneError } from "./errors.js";
import type { ServerMetrics } from "./metrics.js";
import { sseEvent, sseResponse } from "./sse.js";
import type { Usage } from "./usage.js";

/**
 * How long a streamed answer may take to begin before its headers go out, ms. What is wrong with a
 * request shows before its first token, and is told with a status then.
 */
const HEADERS_WITHIN_MS = 2_000;

export interface AnswerRequest {
  readonly context: Context<AppEnv>;
  readonly scope: AnswerScope;
  readonly metrics: ServerMetrics;
  /** Counted under this name. */
  readonly route: string;
}

/** Begins an answer's generations. What the model refuses at once ends those that have begun. */
export function begin<T>(request: AnswerRequest, make: () => T): T {
  try {
    return make();
  } catch (error) {
    const reason = failed(request, error);
    request.scope.abort(reason as Error);
    request.scope.end();
    throw reason;
  }
}

/** A whole answer as JSON. @param work makes the body and says what it cost */
export async function wholeAnswer(
  request: AnswerRequest,
  work: () => Promise<{ readonly body: unknown; readonly usage: Usage }>,
): Promise<Response> {
  const { context, scope } = request;
  try {
    const { body, usage } = await work();
    over(request, "ok", usage);
    return context.json(body);
  } catch (error) {
    throw failed(request, error);
  } finally {
    scope.end();
  }
}

/**
 * A streamed answer.
 *
 * @param feeds what it reads; one must have begun (or time must have passed) before headers go out
 * @param events the events, returning what they cost
 */
export async function streamedAnswer(
  request: AnswerRequest,
  feeds: readonly AnswerFeed[],
  events: () => AsyncGenerator<string, Usage>,
): Promise<Response> {
  const { context, scope } = request;
  try {
    await begunWithin(feeds, HEADERS_WITHIN_MS);
  } catch (error) {
    scope.end();
    throw failed(request, error);
  }
  return sseResponse(context, told(request, events()), {
    onEnd: (left) => {
      // Ends the generations; the stream's own failure that follows is heard by nobody.
      if (left) scope.abort(new ClientGoneError());
      scope.end();
    },
  });
}

/** The events, and an error as the last one where they fail. */
async function* told(request: AnswerRequest, events: AsyncGenerator<string, Usage>): AsyncGenerator<string, void> {
  let counted = false;
  try {
    for (;;) {
      const next = await events.next();
      if (next.done) {
        counted = true;
        return over(request, "ok", next.value);
      }
      yield next.value;
    }
  } catch (error) {
    counted = true;
    yield sseEvent(errorReply(failed(request, error)).body);
  } finally {
    // Left between two events: the reader has gone, and nobody hears more of it.
    if (!counted) over(request, "cancelled");
    await events.return(undefined as never).catch(() => {});
  }
}

function failed(request: AnswerRequest, error: unknown): unknown {
  const reason = request.scope.failure(error);
  const gone = reason instanceof ClientGoneError;
  request.context.get("facts").error = errorReply(reason).body.error.code;
  if (!gone) request.context.get("log").debug({ err: error }, "an answer failed");
  over(request, gone ? "cancelled" : "error");
  return reason;
}

function over({ context, metrics, route }: AnswerRequest, outcome: "ok" | "error" | "cancelled", usage?: Usage): void {
  metrics.request(route, outcome);
  if (!usage) return;
  metrics.prompt(usage.prompt_tokens);
  Object.assign(context.get("facts"), { promptTokens: usage.prompt_tokens, generatedTokens: usage.completion_tokens });
}
