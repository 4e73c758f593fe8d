// What the server itself refuses or fails with. Each knows its HTTP status and the fields of the
// error object that clients of the OpenAI API read; what the engine reports is translated in
// `error-response.ts`.

import { ExllamaError } from "../errors.js";

export interface ApiErrorOptions {
  /** The parameter that is at fault, as the client wrote it: `messages[0].content`. */
  readonly param?: string | null;
  readonly hint?: string;
  /** Seconds after which a try may succeed. */
  readonly retryAfter?: number;
  readonly details?: Record<string, unknown>;
}

/** A failure with a status of its own. `code` in lower case is the `code` that clients see. */
export class ApiError extends ExllamaError {
  readonly status: number;
  /** OpenAI's kind of error. */
  readonly type: string;
  readonly param: string | null;
  readonly retryAfter: number | null;

  constructor(status: number, type: string, code: string, message: string, options: ApiErrorOptions = {}) {
    const { hint, details } = options;
    super(code, message, { ...(hint === undefined ? {} : { hint }), ...(details === undefined ? {} : { details }) });
    this.status = status;
    this.type = type;
    this.param = options.param ?? null;
    this.retryAfter = options.retryAfter ?? null;
  }
}

/** A request that cannot be understood or asks for what there is not. */
export class InvalidRequestError extends ApiError {
  constructor(message: string, options: ApiErrorOptions & { code?: string } = {}) {
    super(400, "invalid_request_error", options.code ?? "INVALID_VALUE", message, options);
  }
}

/** No key, or a wrong one. */
export class KeyError extends ApiError {
  constructor(given: boolean) {
    super(
      401,
      "invalid_request_error",
      given ? "INVALID_API_KEY" : "MISSING_API_KEY",
      given ? "this API key is not one of the server's" : "this server wants an API key",
      { hint: "Send it as the header `Authorization: Bearer KEY`." },
    );
  }
}

/** A good key that does not open this door, or a page that may not speak to this server. */
export class ForbiddenError extends ApiError {
  constructor(message: string, hint: string) {
    super(403, "invalid_request_error", "FORBIDDEN", message, { hint });
  }
}

export class UnknownRouteError extends ApiError {
  constructor(method: string, path: string) {
    super(404, "invalid_request_error", "UNKNOWN_URL", `there is nothing at ${method} ${path}`, {
      hint: "Routes of the OpenAI API begin with /v1, such as /v1/chat/completions.",
    });
  }
}

export class UnknownModelError extends ApiError {
  constructor(asked: string, served: readonly string[]) {
    super(404, "invalid_request_error", "MODEL_NOT_FOUND", `the model ${JSON.stringify(asked)} is not served here`, {
      param: "model",
      hint: `This server has ${served.join(", ")}; --model-name gives it further names.`,
    });
  }
}

export class BodyTooLargeError extends ApiError {
  constructor(limit: number) {
    super(413, "invalid_request_error", "BODY_TOO_LARGE", `the request's body has more than ${limit} bytes`, {
      hint: "The server's --max-body sets the limit.",
    });
  }
}

/** All bodies that are being read take too much memory together. */
export class TooManyBodiesError extends ApiError {
  constructor() {
    super(503, "server_error", "TOO_MANY_BODIES", "the server is reading as many request bodies as it has room for", {
      retryAfter: 2,
    });
  }
}

export class ContentTypeError extends ApiError {
  constructor(type: string | undefined) {
    super(
      415,
      "invalid_request_error",
      "CONTENT_TYPE",
      `the body is ${type === undefined ? "of no type" : JSON.stringify(type)}`,
      {
        hint: "Send JSON, with the header `Content-Type: application/json`.",
      },
    );
  }
}

/** As many requests wait as may. */
export class QueueFullError extends ApiError {
  constructor(waiting: number, retryAfter: number) {
    super(429, "rate_limit_error", "QUEUE_FULL", `the server is busy: ${waiting} answers wait for their turn, and no more may`, {
      retryAfter,
      hint: "Try again later; --max-waiting sets the limit.",
      details: { waiting },
    });
  }
}

/** An answer took longer than --request-timeout. */
export class AnswerTimeoutError extends ApiError {
  constructor(milliseconds: number) {
    super(504, "timeout_error", "REQUEST_TIMEOUT", `the answer was not complete after ${milliseconds / 1000} seconds`, {
      hint: "Ask for fewer tokens, or stream; --request-timeout sets the limit.",
    });
  }
}

/** The engine has died, and the model is being loaded again. */
export class ModelReloadingError extends ApiError {
  constructor(reason: string, retryAfter: number) {
    super(503, "server_error", "MODEL_RELOADING", `the model is being loaded again: ${reason}`, { retryAfter });
  }
}

export class ShuttingDownError extends ApiError {
  constructor() {
    super(503, "server_error", "SHUTTING_DOWN", "the server is shutting down", { retryAfter: 5 });
  }
}

/** The client has gone away; nobody reads this. */
export class ClientGoneError extends ApiError {
  constructor() {
    super(499, "invalid_request_error", "CLIENT_GONE", "the client closed the connection");
  }
}
