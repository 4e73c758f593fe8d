import { describe, expect, it } from "vitest";
import { contextLength, count, decimal, logitBias, onOrOff, tokenIds, wholeNumber } from "./flag-values.js";

describe("values of options", () => {
  it.each<[string, (text: string) => unknown, string, unknown]>([
    ["a whole number", wholeNumber, "-1", -1],
    ["a count", count, "12", 12],
    ["a decimal", decimal, ".5", 0.5],
    ["a decimal with an exponent", decimal, "1e-3", 0.001],
    ["ids", tokenIds, "1, 5,7", [1, 5, 7]],
    ["ids as JSON", tokenIds, "[1,5,7]", [1, 5, 7]],
    ["no ids", tokenIds, "", []],
    ["a context", contextLength, "4096", 4096],
    ["a context by word", contextLength, "max", "max"],
    [
      "biases",
      logitBias,
      "5=-1.5, 17=2",
      [
        [5, -1.5],
        [17, 2],
      ],
    ],
    ["on", onOrOff, "yes", true],
    ["off", onOrOff, "0", false],
  ])("reads %s", (_what, read, text, value) => {
    expect(read(text)).toEqual(value);
  });

  it.each<[string, (text: string) => unknown, string[]]>([
    ["a whole number", wholeNumber, ["", "x", "1.5", "1e3", "99999999999999999999"]],
    ["a count", count, ["0", "-3", "many"]],
    ["a decimal", decimal, ["", "x", "1,5", "NaN", "Infinity", "0x10"]],
    ["ids", tokenIds, ["x", "1,,2", "-1", "1;2", "1.5"]],
    ["a context", contextLength, ["", "Max", "-1", "0", "4k"]],
    ["biases", logitBias, ["", "5", "5=", "x=1", "5=x"]],
    ["a switch", onOrOff, ["", "2", "maybe"]],
  ])("refuses what is not %s", (_what, read, texts) => {
    for (const text of texts) expect(() => read(text), text).toThrow();
  });
});
