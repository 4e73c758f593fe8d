import { InvalidArgumentError } from "commander";
import { describe, expect, it } from "vitest";
import { adapterChoice, adapterChoicesOf } from "./adapter-options.js";
import { adapterPath } from "./flag-values.js";

describe("--adapter and --use-adapter", () => {
  it("collect paths by name", () => {
    const first = adapterPath("pirate=./lora=1/pirate", undefined);
    expect(adapterPath(" brief = C:\\loras\\brief ", first)).toEqual({ pirate: "./lora=1/pirate", brief: "C:\\loras\\brief" });
    expect(() => adapterPath("pirate=other", first)).toThrow(/two adapters named pirate/);
  });

  it.each(["pirate", "=./x", "pirate=", ""])("refuse the path %j", (text) => {
    expect(() => adapterPath(text, undefined)).toThrow(InvalidArgumentError);
  });

  it("collect names and weights", () => {
    expect(adapterChoice("brief=-0.5", adapterChoice("pirate", undefined))).toEqual([
      { name: "pirate" },
      { name: "brief", weight: -0.5 },
    ]);
  });

  it.each(["", "pirate=", "pirate=much", "a b"])("refuse the choice %j", (text) => {
    expect(() => adapterChoice(text, undefined)).toThrow(InvalidArgumentError);
  });

  it("use all that are loaded unless told otherwise", () => {
    const adapter = { a: "x", b: "y" };
    expect(adapterChoicesOf({})).toEqual({});
    expect(adapterChoicesOf({ adapter })).toEqual({ adapters: [{ name: "a" }, { name: "b" }] });
    expect(adapterChoicesOf({ adapter, useAdapter: [{ name: "b", weight: 0 }] })).toEqual({
      adapters: [{ name: "b", weight: 0 }],
    });
  });
});
