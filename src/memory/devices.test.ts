import { describe, expect, it } from "vitest";
import { describesDevices, parseDevices } from "./devices.js";
import { GiB, MiB } from "./size.js";

describe("parseDevices", () => {
  it("names devices by their place and takes the baseline from the table", () => {
    const [first, second] = parseDevices("24GiB,16:1.5");
    expect(first).toEqual({
      id: "cuda:0",
      card: "cuda:0",
      total: 24 * GiB,
      usedByOthers: 0,
      baseline: 530 * MiB,
      baselineSource: "table",
      reserve: 256 * MiB,
    });
    expect(second).toMatchObject({ id: "cuda:1", total: 16 * GiB, usedByOthers: 1.5 * GiB });
  });

  it.each([
    ["a=24GiB,b=8GiB:2GiB", ["a", "b"]],
    ["cuda:3=24,cuda:1=24", ["cuda:3", "cuda:1"]],
    ["GPU-1f2e=24,24", ["GPU-1f2e", "cuda:1"]],
    ["cuda:1=24,24,24", ["cuda:1", "cuda:2", "cuda:3"]],
  ])("names the devices of %s", (list, ids) => {
    expect(parseDevices(list).map(({ id }) => id)).toEqual(ids);
  });

  it("takes the same id twice for the same card", () => {
    expect(parseDevices("a=24,a=24").map(({ card }) => card)).toEqual(["a", "a"]);
    expect(() => parseDevices("a=24,a=16")).toThrow(/"a" is described twice/);
  });

  it.each([
    ["", /device "".*\[id=\]SIZE\[:USED\]/],
    ["24G", /device "24G": "24G" is not a size.*24GiB/s],
    ["24GiB,,8", /device ""/],
    ["=24", /device "=24" cannot be read/],
    ["a=", /device "a=": "" is not a size/],
    ["24:1:1", /cannot be read/],
    ["24:x", /"x" is not a size/],
    ["0", /has no memory/],
    ["8:9", /9.00 GiB used of 8.00 GiB/],
  ])("refuses %j", (list, message) => {
    expect(() => parseDevices(list)).toThrow(message);
  });

  it.each([
    ["24GiB", true],
    ["cuda:0=24GiB", true],
    ["24x", true],
    ["cpu", false],
    ["cuda:0,cuda:1", false],
    ["GPU-8a7f-11", false],
    ["cuda", false],
  ])("knows whether %s describes devices", (list, described) => {
    expect(describesDevices(list)).toBe(described);
  });
});
