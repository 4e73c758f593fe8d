// `--gpu-split`: the most that this process may take on each device, everything included.
// What ExLlama's users stumbled over (decimals, values under 2, fewer values than devices)
// is plain input here; what cannot be read is named, with the right form beside it.

import { UsageError } from "../errors.js";
import { GiB, parseSize } from "./size.js";

/**
 * Reads `5,2.5,8GiB`: one cap per device, in the order of the device list. A bare number is
 * GiB. Fewer values than devices mean the first n devices.
 *
 * @returns bytes per value, or `auto`
 * @throws {UsageError} naming the value that cannot be read, or that has no device
 */
export function parseGpuSplit(split: string | readonly number[], deviceCount: number): number[] | "auto" {
  if (typeof split === "string" && split.trim() === "auto") return "auto";
  const caps = typeof split === "string" ? split.split(",").map(parseValue(split)) : split.map(checkGiB);
  if (caps.length === 0)
    throw new UsageError("the GPU split names no device", { expected: "one value per device, such as 5,2.5,8GiB" });
  if (caps.length > deviceCount) {
    const extra = typeof split === "string" ? split.split(",")[deviceCount]!.trim() : String(split[deviceCount]);
    throw new UsageError(
      `the GPU split has ${caps.length} values for ${deviceCount} ${deviceCount === 1 ? "device" : "devices"}: "${extra}" has none`,
      { expected: `at most ${deviceCount}, one per device, such as ${Array(deviceCount).fill("5").join(",")}` },
    );
  }
  return caps;
}

function parseValue(split: string): (token: string, index: number) => number {
  return (token, index) => {
    try {
      return parseSize(token);
    } catch (error) {
      if (!(error instanceof UsageError)) throw error;
      const hint = error.hint ?? "write one value per device with a comma between, such as 20,2.5,8GiB, or auto";
      throw new UsageError(`value ${index + 1} of the GPU split "${split}": ${error.message}`, { hint });
    }
  };
}

function checkGiB(value: number, index: number): number {
  const bytes = Math.floor(value * GiB);
  if (value >= 0 && Number.isSafeInteger(bytes)) return bytes;
  throw new UsageError(`value ${index + 1} of the GPU split: ${value} is not a size`, {
    expected: "a number of GiB such as 5 or 2.8",
  });
}
