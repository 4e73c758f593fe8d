import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { formatBytes, GiB, MiB, parseSize } from "./size.js";

describe("parseSize", () => {
  it.each([
    ["5", 5 * GiB],
    ["2.8", 3006477107],
    ["0", 0],
    ["0.4", 429496729],
    ["5120MiB", 5 * GiB],
    ["5 GiB", 5 * GiB],
    [" 5GB ", 5e9],
    ["1.5KB", 1500],
    ["17B", 17],
  ])("reads %j", (text, bytes) => {
    expect(parseSize(text)).toBe(bytes);
  });

  it.each([
    "",
    "-1",
    "NaN",
    "1e3",
    "20G",
    "5,",
    "0x10",
    "GiB",
    "1.",
    ".5",
    "5gib",
    "Infinity",
    "9".repeat(400),
    "99999999999GiB",
  ])("refuses %j and says what it wants", (text) => {
    expect(() => parseSize(text)).toThrow(/is not a size.*GiB/s);
  });

  it("says how 20G is written", () => {
    expect(() => parseSize("20G")).toThrow(expect.objectContaining({ hint: expect.stringContaining("20GiB") }));
  });

  it("never returns more than was written", () => {
    fc.assert(
      fc.property(
        fc.double({ min: 0, max: 1e4, noNaN: true }),
        (gib) => parseSize(gib.toFixed(6)) <= Number(gib.toFixed(6)) * GiB,
      ),
    );
  });
});

describe("formatBytes", () => {
  it.each([
    [0, "0 B"],
    [1023, "1023 B"],
    [800 * 1024, "800 KiB"],
    [157.18 * MiB, "157.2 MiB"],
    [530 * MiB, "530 MiB"],
    [2.7 * GiB, "2.70 GiB"],
  ])("writes %d as %s", (bytes, text) => {
    expect(formatBytes(bytes)).toBe(text);
  });
});
