import { describe, expect, it } from "vitest";
import { llama7b, makeSpec } from "../../test/support/shapes.js";
import { UsageError } from "../errors.js";
import type { Plan, PlanDevice, PlanRefusal } from "../memory/plan.js";
import { GiB, MiB } from "../memory/size.js";
import { BackendUnavailableError } from "./errors.js";
import type { PlanOptions } from "./model.js";
import { resolvePlan } from "./planning.js";

const spec = makeSpec({ ...llama7b, contextLimit: 4096 });
const cpu: PlanDevice = {
  id: "cpu",
  card: "cpu",
  total: 64 * GiB,
  usedByOthers: 14 * GiB,
  baseline: 192 * MiB,
  baselineSource: "measured",
  reserve: 0,
};
const resolve = (options: PlanOptions) => resolvePlan(spec, options, cpu).plan;
const devicesOf = (options: PlanOptions) => (resolve(options) as Plan).devices.map(({ id, cap }) => [id, cap]);

describe("resolvePlan", () => {
  it("plans for this computer, with 80 % of what is free", () => {
    const plan = resolve({}) as Plan;
    expect(plan).toMatchObject({ packing: "cpu", context: 4096, run: { cacheType: "f16", prefillChunk: 256, maxSequences: 1 } });
    expect(plan.devices).toHaveLength(1);
    expect(plan.devices[0]).toMatchObject({ id: "cpu", cap: 40 * GiB, baseline: 192 * MiB, baselineSource: "measured" });
  });

  it.each<[PlanOptions, [string, number][]]>([
    [{ cpuMemory: "8GiB" }, [["cpu", 8 * GiB]]],
    [{ cpuMemory: 9e9 }, [["cpu", 9e9]]],
    [{ gpuSplit: "8" }, [["cpu", 8 * GiB]]],
    [{ devices: "cpu", backend: "cpu" }, [["cpu", 40 * GiB]]],
    [{ devices: "24GiB", gpuSplit: [8] }, [["cuda:0", 8 * GiB]]],
    [{ devices: "a=24GiB:1GiB,b=24GiB", backend: "cuda" }, [["a", 22.75 * GiB], ["b", 23.75 * GiB]]], // biome-ignore format: one case a line
  ])("%j", (options, devices) => {
    expect(devicesOf(options)).toEqual(devices);
  });

  it("plans described devices for CUDA, and spreads evenly where a split is given", () => {
    const plan = resolve({ devices: "24GiB,24GiB", gpuSplit: "8,8", cache: "q8", ctx: 2048, prefillChunk: 512 }) as Plan;
    expect(plan).toMatchObject({
      packing: "cuda",
      splitMode: "even",
      run: { cacheType: "q8", context: 2048, prefillChunk: 512 },
    });
    expect(resolve({ devices: "24GiB,24GiB" })).toMatchObject({ splitMode: "fewest" });
  });

  it("keeps the exact path's cache in f32", () => {
    expect(resolve({ cpuExact: true })).toMatchObject({ packing: "cpu-exact", run: { cacheType: "f32" } });
    expect(resolve({ cpuExact: true, cache: "f16" })).toMatchObject({ ok: false, code: "PLAN_CACHE_TYPE" });
  });

  it("refuses CPU memory that is not free", () => {
    const refusal = resolve({ cpuMemory: "60GiB" }) as PlanRefusal;
    expect(refusal).toMatchObject({ code: "PLAN_CAP_EXCEEDS_FREE", device: "cpu", shortfall: 10 * GiB });
  });

  it.each<[PlanOptions]>([
    [{ backend: "cuda" }],
    [{ devices: "cuda:0,cuda:1" }],
    [{ devices: "cpu,cuda:0" }],
    [{ devices: "GPU-5e8d" }],
  ])("says that there is no GPU for %j", (options) => {
    expect(() => resolve(options)).toThrow(BackendUnavailableError);
    expect(() => resolve(options)).toThrow(/no such device/);
  });

  it.each<[PlanOptions, RegExp]>([
    [{ gpuSplit: "5,2" }, /2 values for 1 device/],
    [{ gpuSplit: "5", cpuMemory: "5GiB" }, /given twice/],
    [{ cpuMemory: "8G" }, /"8G" is not a size/],
    [{ cpuMemory: -1 }, /-1 is not a size/],
    [{ devices: "cpu,cpu" }, /more than once/],
    [{ devices: "24GiB", cpuMemory: "5GiB" }, /cpuMemory does not go with described devices/],
    [{ devices: "24GiB", cpuExact: true }, /cpuExact does not go/],
    [{ devices: "24GiB", backend: "cpu" }, /backend cpu does not go/],
    [{ devices: "24G" }, /"24G"/],
    [{ ctx: "large" as "max" }, /context of "large"/],
    [{ ctx: 0 }, /context of 0/],
    [{ cache: "q5" as "q4" }, /cache type "q5" is not known: expected f16, q8, q4/],
    [{ splitMode: "odd" as "even" }, /split mode "odd"/],
    [{ backend: "metal" as "cpu" }, /backend "metal"/],
  ])("refuses %j as a mistake", (options, message) => {
    expect(() => resolve(options)).toThrow(UsageError);
    expect(() => resolve(options)).toThrow(message);
  });
});
