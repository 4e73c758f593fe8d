import { describe, expect, it } from "vitest";
import { llama3_8b, llama7b, makeSpec } from "../../../test/support/shapes.js";
import type { PlanOptions } from "../../engine/model.js";
import { resolvePlan } from "../../engine/planning.js";
import type { Plan, PlanDevice } from "../../memory/plan.js";
import { GiB } from "../../memory/size.js";
import { stepTraffic } from "./traffic.js";

const cpu: PlanDevice = {
  ...{ id: "cpu", card: "cpu", total: 64 * GiB, usedByOthers: 0, baseline: 0, reserve: 0 },
  baselineSource: "measured",
};
const planOf = (options: PlanOptions, shape = llama7b) =>
  resolvePlan(makeSpec(shape), { ctx: 2048, ...options }, cpu).plan as Plan;
const gpu = (options: PlanOptions = {}, shape = llama7b) => stepTraffic(planOf({ devices: "24GiB", ...options }, shape));

describe("what a decode step reads", () => {
  it.each([
    ["f16", llama7b, 32 * 2 * 4096 * 2],
    ["f16", llama3_8b, 32 * 2 * 1024 * 2],
    // A byte each and a scale of two for a head's 128.
    ["q8", llama7b, 32 * 2 * (4096 + 2 * 32)],
  ] as const)("of a %s cache are the keys and values held", (cache, shape, bytesPerToken) => {
    const traffic = gpu({ cache }, shape);
    expect(traffic.cache(1)).toBe(bytesPerToken);
    expect(traffic.cache(1920)).toBe(1920 * bytesPerToken);
  });

  it("is the same whatever the pool's size and however layers are spread", () => {
    const one = gpu();
    const two = gpu({ devices: "24GiB,24GiB", gpuSplit: "5,5", cacheTokens: 4096 });
    expect(two.cache(100)).toBe(one.cache(100));
    // Every device's part is aligned by itself.
    expect(two.weights / one.weights).toBeCloseTo(1, 4);
  });

  it("is all weights once, without the rows of the embedding table", () => {
    // 7B, 4 bits with a scale and a zero for 128: 6.476e9 × 4.1875 / 8, and a head of 32000 × 4096 × 2.
    expect(gpu().weights / 1e9).toBeCloseTo((6.476 * 4.1875) / 8 + 0.262, 1);
    const plan = planOf({ backend: "cpu" });
    const table = plan.devices[0]!.stage!.regions.find(({ name }) => name === "embedding.rows")!;
    expect(stepTraffic(plan).weights).toBe(
      plan.devices[0]!.stage!.regions.filter(({ area }) => area === "weights").reduce((sum, { bytes }) => sum + bytes, 0) -
        table.bytes,
    );
  });

  it("of layers with a window is no more than that", () => {
    const plan = planOf({ devices: "24GiB" });
    const [everything] = plan.cacheGroups;
    const halves = [0, 1].map((part) => ({ ...everything!, layers: everything!.layers.filter((layer) => layer % 2 === part) }));
    const windowed = { ...plan, cacheGroups: [halves[0]!, { ...halves[1]!, window: 512 }] };
    const perToken = stepTraffic(plan).cache(1);
    expect(stepTraffic(windowed).cache(100)).toBe(100 * perToken);
    expect(stepTraffic(windowed).cache(1000)).toBe((1000 + 512) * (perToken / 2));
  });
});
