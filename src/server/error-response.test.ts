import { describe, expect, it } from "vitest";
import { EngineDiedError } from "../engine/errors.js";
import { ExllamaError, UsageError } from "../errors.js";
import { errorReply } from "./error-response.js";
import { ApiError, InvalidRequestError, QueueFullError, UnknownModelError } from "./errors.js";

const died = new EngineDiedError({ kind: "process", pid: 77, exitCode: null, signal: "SIGKILL", stderr: "secret path" });

describe("errorReply", () => {
  it.each<[string, unknown, number, object, object]>([
    [
      "a wrong parameter",
      new InvalidRequestError("no", { param: "n" }),
      400,
      { type: "invalid_request_error", param: "n", code: "invalid_value" },
      {},
    ],
    ["a model that is not there", new UnknownModelError("x", ["demo"]), 404, { code: "model_not_found", param: "model" }, {}],
    ["a full queue", new QueueFullError(9, 2.2), 429, { type: "rate_limit_error", code: "queue_full" }, { "retry-after": "3" }],
    ["an engine's full queue", new ExllamaError("QUEUE_FULL", "full"), 429, { type: "rate_limit_error" }, { "retry-after": "1" }],
    ["an engine that died", died, 503, { type: "server_error", code: "model_reloading" }, { "retry-after": "2" }],
    ["too long a prompt", new ExllamaError("PROMPT_TOO_LONG", "long"), 400, { code: "context_length_exceeded" }, {}],
    ["an option of the engine", new UsageError("no", { details: { option: "topK" } }), 400, { param: "top_k" }, {}],
    ["a failure that is known", new ExllamaError("LOGITS", "NaN"), 500, { type: "server_error", code: "logits" }, {}],
    ["a failure that is not", new TypeError("secret path"), 500, { type: "server_error", code: "internal_error" }, {}],
    ["what is no error", "secret path", 500, { code: "internal_error" }, {}],
  ])("tells of %s", (_what, thrown, status, error, headers) => {
    const reply = errorReply(thrown);
    expect(reply.status).toBe(status);
    expect(reply.body.error).toMatchObject(error);
    expect(Object.keys(reply.body.error).sort()).toEqual(["code", "message", "param", "type"]);
    expect(reply.headers).toEqual(headers);
    expect(reply.body.error.message).not.toMatch(/secret|77/);
  });

  it("says what to do behind what happened", () => {
    expect(errorReply(new ApiError(400, "t", "C", "it broke", { hint: "Mend it." })).body.error.message).toBe(
      "it broke. Mend it.",
    );
  });
});
