import { expect, it } from "vitest";
import type { NvmlFunctions } from "../driver/functions.js";
import { Nvml } from "./nvml.js";

const NOT_SUPPORTED = 3;

/** The management library of a machine whose cards have used so many millijoules. */
function nvmlThatSays(millijoules: bigint, status = 0): Nvml {
  const functions: Partial<NvmlFunctions> = {
    nvmlInit_v2: () => 0,
    nvmlDeviceGetTotalEnergyConsumption: (_, out) => {
      (out as BigUint64Array)[0] = millijoules;
      return status;
    },
  };
  return new Nvml(functions as NvmlFunctions);
}

it("tells the energy of a card in joules", () => {
  expect(nvmlThatSays(1_234_567n).energy(1n)).toBe(1234.567);
});

it("has no figure where a card counts no energy", () => {
  expect(nvmlThatSays(1n, NOT_SUPPORTED).energy(1n)).toBe(null);
});
