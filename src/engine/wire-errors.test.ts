import { describe, expect, it } from "vitest";
import { ExllamaError, UsageError } from "../errors.js";
import { EngineDiedError } from "./errors.js";
import { reviveError, writeError } from "./wire-errors.js";

const cross = (error: unknown) => reviveError(structuredClone(writeError(error)));

describe("errors that cross", () => {
  it("keep their class, code, hint, details and stack", () => {
    const error = new UsageError("ctx is 0", { expected: "a positive number", hint: "say one", details: { ctx: 0 } });
    const revived = cross(error);
    expect(revived).toBeInstanceOf(UsageError);
    expect(revived).toMatchObject({
      name: "UsageError",
      code: "USAGE",
      hint: "say one",
      details: { ctx: 0 },
      message: error.message,
    });
    expect(revived.stack).toBe(error.stack);
    expect(Object.prototype.toString.call(revived)).toBe("[object Error]");
  });

  it("keep a class whose constructor takes something else", () => {
    const error = new EngineDiedError({ kind: "process", pid: 7, exitCode: null, signal: "SIGKILL", stderr: "" });
    const revived = cross(error);
    expect(revived).toBeInstanceOf(EngineDiedError);
    expect(revived).toMatchObject({ message: error.message, details: { pid: 7, signal: "SIGKILL" } });
  });

  it("become ExllamaError when the class is not known here", () => {
    class StrangeError extends ExllamaError {
      readonly extra = [1, 2];
    }
    const revived = cross(new StrangeError("STRANGE", "odd"));
    expect(revived).toBeInstanceOf(ExllamaError);
    expect(revived).toMatchObject({ name: "StrangeError", code: "STRANGE", extra: [1, 2] });
  });

  it("keep causes, and stop at a circle of them", () => {
    const inner = new TypeError("inner");
    expect(cross(new ExllamaError("OUTER", "outer", { cause: inner })).cause).toMatchObject({
      name: "TypeError",
      message: "inner",
    });
    inner.cause = inner;
    expect(cross(inner)).toBeInstanceOf(Error);
  });

  it.each([["a string"], [undefined], [null], [42]])("are made of %j, which was thrown though no error", (thrown) => {
    expect(cross(thrown).message).toBe(String(thrown));
  });

  it("carry what cannot be cloned as text", () => {
    expect(cross(new ExllamaError("X", "x", { details: { run: () => 1 } }))).toMatchObject({ details: { run: "() => 1" } });
  });
});
