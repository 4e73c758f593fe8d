import { describe, expect, it } from "vitest";
import { adapterCondition, resolveAdapters } from "./adapters.js";
import { GenerationOptionError } from "./errors.js";

const loaded = ["pirate", "brief", "third"].map((name) => ({ name, layers: [] }));

describe("resolveAdapters", () => {
  it("numbers them as they were loaded, whatever the order of asking", () => {
    const choices = [{ name: "third" }, { name: "pirate", weight: -0.5 }, { name: "brief", weight: 0 }];
    expect(resolveAdapters(choices, loaded)).toEqual([
      { index: 0, weight: -0.5 },
      { index: 2, weight: 1 },
    ]);
    expect(resolveAdapters([], loaded)).toEqual([]);
    expect(resolveAdapters([])).toEqual([]);
  });

  it.each([
    ["a name that is none", [{ name: "pirat" }], /no adapter "pirat"/],
    ["one twice", [{ name: "brief" }, { name: "brief", weight: 0 }], /asked for twice/],
    ["a weight without measure", [{ name: "brief", weight: Number.POSITIVE_INFINITY }], /cannot be read/],
    ["a weight that is text", [{ name: "brief", weight: "1" }], /cannot be read/],
    ["a misspelt field", [{ name: "brief", wieght: 1 }], /cannot be read/],
    ["names alone", ["brief"], /cannot be read/],
    ["one that is no list", { name: "brief" }, /cannot be read/],
  ])("refuses %s", (_, choices, message) => {
    const resolve = () => resolveAdapters(choices as never, loaded);
    expect(resolve).toThrow(GenerationOptionError);
    expect(resolve).toThrow(message);
  });

  it("says what is near, what there is, or that there is nothing", () => {
    const hint = (name: string, of = loaded) => {
      try {
        resolveAdapters([{ name }], of);
      } catch (error) {
        return (error as GenerationOptionError).hint;
      }
    };
    expect(hint("pirates")).toMatch(/pirate\?/);
    expect(hint("zzzzzz")).toMatch(/pirate, brief, third/);
    expect(hint("pirate", [])).toMatch(/No adapter is loaded/);
  });
});

describe("adapterCondition", () => {
  it("tells sets of adapters apart", () => {
    const conditions = [
      [],
      [{ index: 0, weight: 1 }],
      [{ index: 1, weight: 1 }],
      [{ index: 0, weight: 0.1 }],
      [{ index: 0, weight: -1 }],
      [
        { index: 0, weight: 1 },
        { index: 1, weight: 1 },
      ],
    ].map(adapterCondition);
    expect(new Set(conditions).size).toBe(conditions.length);
    expect(conditions[0]).toBe("");
  });
});
