import { totalmem } from "node:os";
import { describe, expect, it } from "vitest";
import { MiB } from "../memory/size.js";
import { measureCpuDevice } from "./cpu-device.js";

describe("measureCpuDevice", () => {
  it("measures what there is, what others use, and what this process has already", () => {
    const device = measureCpuDevice();
    expect(device).toMatchObject({ id: "cpu", card: "cpu", baselineSource: "measured", reserve: 0 });
    expect(device.total).toBeGreaterThan(0);
    expect(device.total).toBeLessThanOrEqual(totalmem());
    expect(device.usedByOthers).toBeGreaterThanOrEqual(0);
    expect(device.usedByOthers).toBeLessThan(device.total);
    expect(device.baseline).toBeGreaterThan(process.memoryUsage.rss());
    expect(device.baseline % MiB).toBe(0);
  });

  it("counts the threads that will be started", () => {
    expect(measureCpuDevice(64).baseline - measureCpuDevice(1).baseline).toBeGreaterThan(500 * MiB);
  });
});
