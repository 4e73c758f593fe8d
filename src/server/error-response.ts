// Whatever was thrown, as the OpenAI API says it: `{error: {message, type, param, code}}` with a
// fitting status, and `retry-after` where another try makes sense. What nobody foresaw is
// reported without its text: it may hold what is not the client's.

import { ExllamaError, UsageError } from "../errors.js";
import { ApiError, ModelReloadingError } from "./errors.js";

/** The body of every answer that is an error, and the `data` of an error in the middle of a stream. */
export interface ErrorBody {
  readonly error: {
    readonly message: string;
    readonly type: string;
    readonly param: string | null;
    readonly code: string | null;
  };
}

export interface ErrorReply {
  readonly status: number;
  readonly body: ErrorBody;
  readonly headers: Readonly<Record<string, string>>;
}

/** Codes of the engine that are the request's fault, and the parameter they are about where that is known. */
const REQUEST_FAULTS: Readonly<Record<string, { readonly code?: string; readonly param?: string }>> = {
  PROMPT_TOO_LONG: { code: "context_length_exceeded" },
  CACHE_TOO_SMALL: { code: "context_length_exceeded", param: "max_tokens" },
  EMPTY_PROMPT: {},
  TOKEN_ID: {},
  NO_TOKEN_ALLOWED: {},
  CHAT_TEMPLATE: { param: "messages" },
  TOKENIZER: {},
  TOO_MANY_SEQUENCES: {},
  CHAT_MESSAGE: {},
  CONSTRAINT: { param: "response_format" },
};

/** The engine has no room for it now. */
const BUSY = new Set(["QUEUE_FULL", "NO_ROOM"]);

/** The engine is gone or going: the same request may work in a moment. */
const GONE = new Set([
  "ENGINE_DIED",
  "MODEL_DISPOSED",
  "SCHEDULER_CLOSED",
  "CUDA_POISONED",
  "CPU_RUNTIME_ENDED",
  "CUDA_RUNTIME_ENDED",
]);

/** Seconds after which a model that died is usually there again. */
const RELOAD_SECONDS = 2;

export function errorReply(thrown: unknown): ErrorReply {
  if (thrown instanceof ApiError)
    return reply(thrown.status, thrown.type, thrown, thrown.param, thrown.code.toLowerCase(), thrown.retryAfter);
  if (!(thrown instanceof ExllamaError)) return unexpected();
  const fault = REQUEST_FAULTS[thrown.code];
  if (thrown instanceof UsageError || fault)
    return reply(
      400,
      "invalid_request_error",
      thrown,
      fault?.param ?? parameterOf(thrown),
      fault?.code ?? thrown.code.toLowerCase(),
    );
  if (BUSY.has(thrown.code)) return reply(429, "rate_limit_error", thrown, null, thrown.code.toLowerCase(), 1);
  // How the engine ended (process ids, its last lines) is for the log.
  if (GONE.has(thrown.code)) return errorReply(new ModelReloadingError("its engine ended", RELOAD_SECONDS));
  return reply(500, "server_error", thrown, null, thrown.code.toLowerCase());
}

function reply(
  status: number,
  type: string,
  error: ExllamaError,
  param: string | null,
  code: string,
  retryAfter: number | null = null,
): ErrorReply {
  const message = error.hint ? `${sentence(error.message)} ${error.hint}` : error.message;
  return {
    status,
    body: { error: { message, type, param, code } },
    headers: retryAfter === null ? {} : { "retry-after": String(Math.max(1, Math.ceil(retryAfter))) },
  };
}

function unexpected(): ErrorReply {
  const message = "the server failed in a way that it does not know; its log says more under this request's id";
  return { status: 500, body: { error: { message, type: "server_error", param: null, code: "internal_error" } }, headers: {} };
}

/** The engine names options in its own spelling: `topK` is `top_k` here. */
function parameterOf({ details, code, message }: ExllamaError): string | null {
  // These begin with what they are about: `messages[0].content is missing`.
  if (code === "CHAT_MESSAGE")
    return (
      /^(?:messages|tools)[[\]\w.]*/.exec(message)?.[0] ??
      (/tool choice|a call is required/.test(message) ? "tool_choice" : "messages")
    );
  const name = details.option ?? details.parameter;
  return typeof name === "string" ? name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`) : null;
}

function sentence(text: string): string {
  return /[.!?]$/.test(text) ? text : `${text}.`;
}
