import { describe, expect, it } from "vitest";
import { UsageError } from "../errors.js";
import { GiB, MiB } from "./size.js";
import { parseGpuSplit } from "./split.js";

describe("parseGpuSplit", () => {
  it.each([
    ["20,1,20,20", 4, [20 * GiB, GiB, 20 * GiB, 20 * GiB]],
    ["1", 1, [GiB]],
    ["3.25, 2.75", 4, [3.25 * GiB, 2.75 * GiB]],
    ["5GiB,5120MiB,5GB,0", 4, [5 * GiB, 5 * GiB, 5e9, 0]],
    ["auto", 4, "auto"],
  ])("reads %j for %d devices", (split, devices, caps) => {
    expect(parseGpuSplit(split, devices)).toEqual(caps);
  });

  it("takes GiB numbers from programs", () => {
    expect(parseGpuSplit([5, 0.5], 2)).toEqual([5 * GiB, 512 * MiB]);
  });

  it.each([
    ["20G", '"20G" is not a size', "20GiB"],
    ["-1", '"-1" is not a size', "20,2.5,8GiB"],
    ["NaN", '"NaN" is not a size', "20,2.5,8GiB"],
    ["5,,2", 'value 2 of the GPU split "5,,2": "" is not a size', "20,2.5,8GiB"],
    ["1e3", '"1e3" is not a size', "20,2.5,8GiB"],
    ["", '"" is not a size', "20,2.5,8GiB"],
    ["5,2,", 'value 3 of the GPU split "5,2,"', "20,2.5,8GiB"],
    ["5;2", '"5;2" is not a size', "20,2.5,8GiB"],
  ])("refuses %j, names the value and shows the right form", (split, message, form) => {
    const error = thrown(() => parseGpuSplit(split, 4));
    expect(error.message).toContain(message);
    expect(error.message).toMatch(/expected .*GiB/);
    expect(error.hint).toContain(form);
  });

  it("refuses more values than devices and names the first without one", () => {
    const error = thrown(() => parseGpuSplit("5,4,3", 2));
    expect(error.message).toMatch(/3 values for 2 devices: "3" has none: expected at most 2/);
  });

  it.each([[[-1]], [[Number.NaN]], [[Number.POSITIVE_INFINITY]], [[]]])("refuses %j from programs", (split) => {
    expect(() => parseGpuSplit(split, 2)).toThrow(UsageError);
  });
});

function thrown(run: () => unknown): UsageError {
  try {
    run();
  } catch (error) {
    expect(error).toBeInstanceOf(UsageError);
    return error as UsageError;
  }
  throw new Error("nothing was refused");
}
