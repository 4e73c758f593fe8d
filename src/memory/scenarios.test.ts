// The scenarios that must hold, from ExLlama's issue 305 to planning for machines that are not
// here. Sizes are simple ones that pencil and paper can follow: see test/support/simple-packing.ts.

import { describe, expect, it } from "vitest";
import { fixture } from "../../test/support/fixtures.js";
import { serveFolder } from "../../test/support/serve-folder.js";
import { llama3_8b, llama13b, llama70b, makeSpec, type Shape } from "../../test/support/shapes.js";
import { simpleDevices, simplePacking } from "../../test/support/simple-packing.js";
import { cudaPacking } from "../backend/cuda/packing.js";
import type { CheckpointHeaders } from "../checkpoint/checkpoint.js";
import { openCheckpoint } from "../checkpoint/local.js";
import { fetchCheckpointHeaders } from "../checkpoint/remote.js";
import { readModel } from "../model/read.js";
import { layout } from "./layout.js";
import type { Plan, PlanDevice, PlanRefusal } from "./plan.js";
import { type PlanRequest, planModel } from "./plan-model.js";
import { recheckPlan } from "./recheck.js";
import { GiB, MiB } from "./size.js";
import { parseGpuSplit } from "./split.js";

const spec13b = makeSpec(llama13b);
const four = simpleDevices(24, 24, 24, 24);

interface Ask extends Partial<Omit<PlanRequest, "caps" | "devices">> {
  readonly devices?: readonly PlanDevice[];
  /** As on the command line. */
  readonly split?: string;
}

function ask({ split = "auto", devices = four, ...rest }: Ask): Plan | PlanRefusal {
  const caps = parseGpuSplit(split, devices.length);
  return planModel({ spec: spec13b, packing: simplePacking(), context: "auto", cacheType: "f16", ...rest, devices, caps });
}

function plan(request: Ask): Plan {
  const result = ask(request);
  if (!result.ok) throw new Error(result.message);
  for (const { total, cap, baseline, weights, kvCache, scratch, headroom } of result.devices) {
    expect(total).toBe(baseline + weights + kvCache + scratch);
    expect(total).toBeLessThanOrEqual(cap);
    expect(headroom).toBe(cap - total);
  }
  expect(layersOf(result).reduce((sum, count) => sum + count)).toBe((request.spec ?? spec13b).layers.length);
  return result;
}

function refusal(request: Ask): PlanRefusal {
  const result = ask(request);
  if (result.ok) throw new Error("this was planned");
  return result;
}

const layersOf = (result: Plan) => result.devices.map(({ layers }) => layers.count);
const suggested = (result: PlanRefusal, change: string) => result.suggestions.find((one) => one.change === change)?.value;

describe("scenarios", () => {
  it("1: 13B in 1 GiB is refused with the shortfall in bytes", () => {
    const result = refusal({ devices: simpleDevices(24), split: "1" });
    expect(result.code).toBe("PLAN_DOES_NOT_FIT");
    // 512 + 64 MiB, 40 layers of 157.18 MiB with 256 tokens of KV, the head, rounded up to 2 MiB
    expect(result).toMatchObject({ device: "cuda:0", cap: GiB, needed: 7376 * MiB, shortfall: 6352 * MiB });
    expect(result.message).toContain(`${6352 * MiB} bytes`);
  });

  it("2: 20,1,20,20 leaves the small device alone, and says why", () => {
    const result = plan({ split: "20,1,20,20", context: 8192 });
    expect(layersOf(result)).toEqual([13, 0, 14, 13]);
    expect(result.devices[1]).toMatchObject({ total: 0, baseline: 0, stage: null });
    expect(result.devices[1]!.excluded).toMatch(/share of a cap is smaller without it/);
  });

  it("3: 2,2,2,2 is refused and says what would fit", () => {
    const result = refusal({ split: "2,2,2,2", context: 2048 });
    const caps = suggested(result, "gpuSplit") as number[];
    expect(Math.max(...caps) / GiB).toBeCloseTo(2.7, 1);
    expect(planModel({ ...base(2048), caps })).toMatchObject({ ok: true });
  });

  it("4: 3,3,3,3 spreads evenly", () => {
    const result = plan({ split: "3,3,3,3", context: 2048 });
    expect(layersOf(result)).toEqual([10, 10, 11, 9]);
    expect(Math.max(...result.devices.map(({ total }) => total))).toBeLessThan(2.7 * GiB);
    expect(result.largestContext.f16).toBe(3328);
  });

  it("5: 3,3,3,3 at 4096 is refused and offers what fits", () => {
    const result = refusal({ split: "3,3,3,3", context: 4096 });
    expect(result.largestContext).toEqual({ f16: 3328, q8: 6912, q4: 12544 });
    expect(suggested(result, "ctx")).toBe(3328);
    expect(result.suggestions.filter(({ change }) => change === "cache").map(({ value }) => value)).toEqual(["q8", "q4"]);
  });

  it("6: 5,2,2,2 at 2048", () => {
    const result = plan({ split: "5,2,2,2", context: 2048 });
    expect(layersOf(result)).toEqual([21, 7, 7, 5]);
    expect(result.largestContext.f16).toBe(2560);
  });

  it("7: 5,2,2,2 at 8192 is refused", () => {
    const result = refusal({ split: "5,2,2,2", context: 8192 });
    expect(suggested(result, "ctx")).toBe(2560);
    expect(planModel({ ...base(8192), caps: suggested(result, "gpuSplit") as number[] })).toMatchObject({ ok: true });
  });

  it("8: 5,4,4,4 at 8192", () => {
    const result = plan({ split: "5,4,4,4", context: 8192 });
    expect(layersOf(result)).toEqual([12, 9, 10, 9]);
    expect(result.largestContext.f16).toBe(9728);
  });

  it("9: decimals work", () => {
    const result = plan({ split: "3.25,2.75,3.5,2.9", context: 2048 });
    expect(result.devices.map(({ cap }) => cap)).toEqual([3.25 * GiB, 2.75 * GiB, 3.5 * GiB, Math.floor(2.9 * GiB)]);
  });

  it("10: 1.5 eight times is refused and says what each would need", () => {
    const result = refusal({
      split: Array(8).fill("1.5").join(","),
      devices: simpleDevices(...Array(8).fill(24)),
      context: 2048,
    });
    expect(result.devices).toHaveLength(8);
    expect(result.devices.every(({ needed }) => needed > 0)).toBe(true);
    expect(suggested(result, "gpuSplit")).toHaveLength(8);
  });

  it("11: 0.4,8,8,0 leaves out the devices whose cap a context alone would break", () => {
    const result = plan({ split: "0.4,8,8,0", context: 2048 });
    expect(layersOf(result)).toEqual([0, 21, 19, 0]);
    for (const index of [0, 3]) expect(result.devices[index]!.excluded).toMatch(/does not exceed the 512 MiB/);
  });

  it("12: without caps, --split-mode even balances free memory", () => {
    const devices = simpleDevices(24, 20, 22, 23);
    const result = plan({ devices, splitMode: "even" });
    expect(result.devices.map(({ cap }) => cap)).toEqual(devices.map(({ total }) => total));
    const shares = result.devices.map(({ total, cap }) => total / cap);
    const layer = Math.max(...result.devices.map(({ total, cap, layers }) => total / cap / layers.count));
    expect(Math.max(...shares) - Math.min(...shares)).toBeLessThan(layer);
  });

  it("13: seventeen devices", () => {
    const result = plan({ devices: simpleDevices(...Array(17).fill(24)), split: Array(17).fill("5").join(",") });
    expect(layersOf(result).every((count) => count > 0)).toBe(true);
  });

  it("14: 70B on two cards", () => {
    const devices = simpleDevices(24, 24);
    const result = plan({
      spec: makeSpec(llama70b),
      packing: simplePacking(256 * MiB),
      devices,
      split: "23.5,23.5",
      context: 8192,
    });
    expect(layersOf(result)).toEqual([41, 39]);
    expect(result.largestContext).toEqual({ f16: 37120, q8: 73472, q4: 132608 });
  });

  it("15: 70B on unequal cards", () => {
    const devices = simpleDevices(24, 24, 24);
    const result = plan({
      spec: makeSpec(llama70b),
      packing: simplePacking(256 * MiB),
      devices,
      split: "14,7.5,23.25",
      context: 2048,
    });
    const [a, b, c] = layersOf(result) as [number, number, number];
    expect(c).toBeGreaterThan(a);
    expect(a).toBeGreaterThan(b);
  });

  it("16: 8B under 8 GiB", () => {
    const result = plan({ spec: makeSpec(llama3_8b), devices: simpleDevices(24), split: "8", context: "max" });
    expect(result.context).toBe(25088);
    expect(result.binding).toBe("cuda:0 memory");
  });

  it("17: unequal layers are balanced by bytes, not by count", () => {
    const intermediate = Array.from({ length: 40 }, (_, index) => (index < 10 ? 4 * 13824 : 13824));
    const result = plan({ spec: makeSpec({ ...llama13b, intermediate }), devices: simpleDevices(24, 24), split: "20,20" });
    const [first, second] = result.devices as [Plan["devices"][0], Plan["devices"][0]];
    expect(first.layers.count).toBeLessThan(second.layers.count - 5);
    expect(Math.abs(first.total - second.total)).toBeLessThan(600 * MiB);
  });

  it("18: the cache of sliding-window layers ends at window and prefill chunk", () => {
    const windows = Array.from({ length: 40 }, (_, index) => (index % 2 ? 1024 : null));
    const result = plan({
      spec: makeSpec({ ...llama13b, windows }),
      devices: simpleDevices(80),
      context: 32768,
      prefillChunk: 512,
    });
    expect(result.cacheGroups.map(({ window, pages }) => [window, pages])).toEqual([
      [null, 128],
      [1024, 6],
    ]);
    const kvOfLayer = (layer: number) =>
      result.devices[0]!.stage!.regions.find(({ name }) => name === `layers.${layer}.kv`)!.bytes;
    expect(kvOfLayer(0)).toBe(32768 * 20480);
    expect(kvOfLayer(1)).toBe(1536 * 20480);
  });

  it("19: tied embeddings are counted once if together, twice if split", () => {
    const packing = { ...simplePacking(), embeddings: "device" as const };
    const table = 32000 * 5120 * 2;
    const weights = (tied: boolean, split: string, devices: PlanDevice[]) =>
      plan({ spec: makeSpec({ ...llama13b, tied }), packing, devices, split }).devices.reduce(
        (sum, device) => sum + device.weights,
        0,
      );
    const one = simpleDevices(24);
    const two = simpleDevices(24, 24);
    expect(weights(false, "20", one) - weights(true, "20", one)).toBe(table);
    expect(weights(false, "20,20", two)).toBe(weights(true, "20,20", two));
    const notes = plan({ spec: makeSpec({ ...llama13b, tied: true }), packing, devices: two, split: "20,20" }).notes;
    expect(notes.join()).toMatch(/counted twice/);
  });

  it("20: a mixture of experts is planned with all its experts, and said not to run", () => {
    const shape: Shape = { ...llama3_8b, experts: 8 };
    const result = plan({ spec: makeSpec(shape), devices: simpleDevices(80), split: "80" });
    const experts = 32 * 8 * 3 * 4096 * 14336 * (4.15625 / 8);
    expect(result.devices[0]!.weights).toBeGreaterThan(experts);
    expect(result.notes.join()).toMatch(/can be planned but not run/);
  });

  it("21: a draft model is in the same plan, whole on one device", () => {
    const draft = makeSpec({ ...llama3_8b, layers: 4 });
    const request: Ask = { split: "5,5,5,5", context: 2048 };
    const without = plan(request);
    const result = plan({ ...request, draft });
    const holders = result.devices.filter((device) => device.draft);
    expect(holders).toHaveLength(1);
    const stage = holders[0]!.draft!;
    expect(stage).toEqual(layout(draft, { first: 0, count: 4 }, result.run, simplePacking()));
    expect(holders[0]!.weights).toBe((holders[0]!.stage?.weights ?? 0) + stage.weights);
    const sum = (one: Plan) => one.devices.reduce((all, device) => all + device.weights + device.kvCache, 0);
    expect(sum(result)).toBe(sum(without) + stage.weights + stage.kvCache);
    expect(result.largestContext.f16).toBeLessThan(without.largestContext.f16);
  });

  it("22: a larger prefill chunk is more scratch, planned and allocated, and nothing else", () => {
    const withChunk = (prefillChunk: number) => {
      const [device] = plan({ packing: cudaPacking, devices: simpleDevices(24), context: 4096, prefillChunk }).devices;
      const { scratch, weights, kvCache, stage } = device!;
      expect(stage!.arenas.map(({ bytes }) => bytes + stage!.captured)).toEqual([weights + kvCache + scratch]);
      return { scratch, weights, kvCache };
    };
    const [small, large] = [withChunk(512), withChunk(2048)];
    expect({ ...large, scratch: 0 }).toEqual({ ...small, scratch: 0 });
    // At least the gate and up activations of 1536 more tokens, in f16.
    expect(large.scratch - small.scratch).toBeGreaterThan(1536 * 2 * 13824 * 2);
  });

  it("6, with CUDA's own sizes: the default prefill chunk gives way where only so the context fits", () => {
    const cuda = { packing: cudaPacking, context: 2048 } as const;
    expect(plan({ ...cuda, split: "20,1,20,20" }).run.prefillChunk).toBe(2048);
    const tight = plan({ ...cuda, split: "5,2,2,2" });
    expect(tight.run.prefillChunk).toBeLessThan(2048);
    expect(tight.notes.join()).toContain(`chunks of ${tight.run.prefillChunk} tokens instead of 2048`);
    expect(refusal({ ...cuda, split: "5,2,2,2", prefillChunk: 2048 }).code).toBe("PLAN_DOES_NOT_FIT");
    // The largest contexts are those that the default chunk can give way to.
    const { f16 } = tight.largestContext;
    expect(plan({ ...cuda, split: "5,2,2,2", context: f16 }).run.prefillChunk).toBeLessThan(2048);
    expect(refusal({ ...cuda, split: "5,2,2,2", context: f16 + 256 }).suggestions).toContainEqual({ change: "ctx", value: f16 });
  });

  it("23: a cap above what is free is refused, never clamped", () => {
    const busy = four.map((device, index) => ({ ...device, usedByOthers: index === 2 ? 20 * GiB : 0 }));
    const result = refusal({ devices: busy, split: "5,5,5,5", context: 2048 });
    expect(result).toMatchObject({ code: "PLAN_CAP_EXCEEDS_FREE", device: "cuda:2", cap: 5 * GiB, shortfall: GiB });
    const smaller = suggested(result, "gpuSplit") as number[];
    expect(smaller).toEqual([5 * GiB, 5 * GiB, 4 * GiB, 5 * GiB]);
    expect(planModel({ ...base(2048), devices: busy, caps: smaller })).toMatchObject({ ok: true });
  });

  it("23: memory taken by another process between planning and loading is refused", () => {
    const made = plan({ split: "5,5,5,5", context: 2048 });
    expect(recheckPlan(made, four)).toBeNull();
    const taken = four.map((device, index) => ({ ...device, usedByOthers: index === 1 ? 22 * GiB : 0 }));
    const needed = made.devices[1]!.total;
    expect(recheckPlan(made, taken)).toMatchObject({
      code: "PLAN_MEMORY_TAKEN",
      device: "cuda:1",
      needed,
      shortfall: needed - 2 * GiB,
    });
    expect(recheckPlan(made, four.slice(0, 3))).toMatchObject({ code: "PLAN_MEMORY_TAKEN", device: "cuda:3" });
  });

  it.each(["20G", "-1", "NaN", "5,,2", "5,2,2,2,2", "1e3"])("24: %s is refused by name", (split) => {
    const token = { "5,,2": '""', "5,2,2,2,2": '"2" has none' }[split] ?? `"${split}"`;
    expect(() => ask({ split })).toThrow(token);
    expect(() => ask({ split })).toThrow(/expected .*5/);
  });

  it("25: other ids, gaps in them and UUIDs give the same plan, relabelled", () => {
    const request: Ask = { split: "5,2,2,2", context: 2048 };
    const ids = ["cuda:7", "GPU-5e8d-11", "cuda:0", "cuda:3"];
    const renamed = four.map((device, index) => ({ ...device, id: ids[index]!, card: ids[index]! }));
    const result = plan({ ...request, devices: renamed });
    expect(result.devices.map(({ id }) => id)).toEqual(ids);
    const unnamed = (one: Plan) => ({ ...one, devices: one.devices.map((device) => ({ ...device, id: "", card: "" })) });
    expect(unnamed(result)).toEqual(unnamed(plan(request)));
  });

  it("26: a remote checkpoint gives the same plan as a local one, without a weight byte read", async () => {
    const folder = fixture("demo-gptq-4bit-g128");
    const local = await openCheckpoint(folder);
    const served = await serveFolder(folder);
    try {
      const remote = await fetchCheckpointHeaders(served.address);
      const planned = (headers: CheckpointHeaders) =>
        JSON.stringify(ask({ spec: readModel(headers), packing: cudaPacking, split: "2,2", devices: simpleDevices(24, 24) }));
      expect(planned(remote)).toBe(planned(local));
      expect(JSON.parse(planned(local))).toMatchObject({ ok: true });
      const firstWeight = Math.min(...[...local.tensors.values()].map(({ start }) => start));
      expect(served.lastWeightFileByte()).toBeLessThan(firstWeight);
    } finally {
      await local.close();
      served.close();
    }
  });

  // 27, random instances against brute force: placement.test.ts and plan-model.test.ts.
  // 28 and 29 need a device: they are scenarios of the backends.

  it("a card listed twice pays for its context once, at its first used entry", () => {
    const devices = [four[0]!, four[0]!];
    const result = plan({ devices, split: "6,6", context: 2048 });
    expect(result.devices.map(({ baseline }) => baseline)).toEqual([512 * MiB, 0]);
    expect(refusal({ devices, split: "20,20" })).toMatchObject({ code: "PLAN_CAP_EXCEEDS_FREE", shortfall: 16 * GiB });
  });

  it("fewer values than devices are for the first ones", () => {
    const result = plan({ split: "8,8", context: 2048 });
    expect(layersOf(result)).toEqual([21, 19, 0, 0]);
    expect(result.devices[3]).toMatchObject({ cap: 0, total: 0, excluded: expect.stringContaining("names the first 2") });
  });
});

function base(context: number): Omit<PlanRequest, "caps"> {
  return { spec: spec13b, packing: simplePacking(), devices: four, context, cacheType: "f16" };
}
