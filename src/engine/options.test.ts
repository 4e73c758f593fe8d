import { describe, expect, it } from "vitest";
import { UsageError } from "../errors.js";
import type { GenerateOptions, LoadOptions } from "./model.js";
import { checkAnswerOptions, checkLoadOptions, checkPlanOptions, idsOf } from "./options.js";

describe("options", () => {
  it("are split into what crosses and what stays", () => {
    const { signal } = new AbortController();
    const onProgress = () => {};
    const checked = checkLoadOptions({ ctx: 512, engine: "thread", signal, onProgress });
    expect(checked).toEqual({ engineOptions: { ctx: 512 }, engine: "thread", signal, onProgress });
    expect(checkAnswerOptions({ temperature: 0, signal })).toEqual({ answerOptions: { temperature: 0 }, signal });
  });

  it("that do not exist are refused by name", () => {
    expect(() => checkLoadOptions({ context: 512 } as LoadOptions)).toThrow(/loadModel has no option "context"/);
    expect(() => checkPlanOptions({ threads: 2 } as LoadOptions)).toThrow(/plan has no option "threads"/);
    expect(() => checkAnswerOptions({ temprature: 0 } as GenerateOptions)).toThrow(
      expect.objectContaining({ code: "USAGE", hint: "did you mean temperature?" }),
    );
  });

  it("name an engine that exists", () => {
    expect(() => checkLoadOptions({ engine: "gpu" as "thread" })).toThrow(UsageError);
  });
});

describe("idsOf", () => {
  it("takes arrays and typed arrays", () => {
    expect(idsOf([1, 2], "ids")).toEqual(Int32Array.of(1, 2));
    expect(idsOf(Int32Array.of(3) as unknown as number[], "ids")).toEqual(Int32Array.of(3));
  });

  it.each([[[1.5]], [[-1]], [[Number.NaN]], [["1"]], [[2 ** 31]], ["text"], [null]])("refuses %j", (ids) => {
    expect(() => idsOf(ids as number[], "ids")).toThrow(/ids/);
  });
});
