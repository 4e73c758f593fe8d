import { describe, expect, it } from "vitest";
import { UsageError } from "../errors.js";
import type { GenerateOptions, LoadOptions } from "./model.js";
import { checkAnswerOptions, checkChatOptions, checkLoadOptions, checkPlanOptions, idsOf } from "./options.js";

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

  it.each<[object, RegExp]>([
    [{ ctx: true }, /ctx is true: expected a number or a text/],
    [{ devices: ["cpu"] }, /devices is an array: expected a text/],
    [{ gpuSplit: 5 }, /gpuSplit is 5: expected a text or an array of numbers/],
    [{ draft: null }, /draft is null: expected a text/],
    [{ ropeScale: "2" }, /ropeScale is "2": expected a number/],
    [{ adapters: ["pirate"] }, /adapters is an array: expected an object of texts/],
    [{ onProgress: 5 }, /onProgress is 5: expected a function/],
    [{ signal: {} }, /signal is an object: expected an AbortSignal/],
  ])("of another kind are refused by name: %j", (options, message) => {
    expect(() => checkLoadOptions(options as LoadOptions)).toThrow(message);
  });

  it("of an answer are held to their kinds, too", () => {
    expect(() => checkAnswerOptions({ addBos: 0 } as unknown as GenerateOptions)).toThrow(/addBos is 0: expected true or false/);
    expect(() => checkAnswerOptions({ seed: 5n } as unknown as GenerateOptions)).toThrow(/seed is a bigint/);
    expect(() => checkChatOptions(null as unknown as GenerateOptions)).toThrow(/the options of chat are null/);
  });

  it("left undefined are as if they were not there", () => {
    expect(() => checkLoadOptions({ ctx: undefined, signal: undefined } as LoadOptions)).not.toThrow();
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
