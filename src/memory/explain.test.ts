import { stripVTControlCharacters } from "node:util";
import { describe, expect, it } from "vitest";
import { llama13b, makeSpec } from "../../test/support/shapes.js";
import { simpleDevices, simplePacking } from "../../test/support/simple-packing.js";
import { explainPlan, explainRefusal } from "./explain.js";
import type { Plan, PlanRefusal } from "./plan.js";
import { planToJson, refusalToJson } from "./plan-json.js";
import { planModel } from "./plan-model.js";
import { GiB, parseSize } from "./size.js";
import { parseGpuSplit } from "./split.js";
import { exactSize } from "./suggestion-text.js";

const planned = (split: string, context: number) =>
  planModel({
    spec: makeSpec(llama13b),
    packing: simplePacking(),
    devices: simpleDevices(24, 24, 24, 24),
    caps: parseGpuSplit(split, 4),
    context,
    cacheType: "f16",
  });
const plan = planned("20,1,20,20", 8192) as Plan;
const refusal = planned("3,3,3,3", 4096) as PlanRefusal;

describe("explainPlan", () => {
  it("shows figures, bars, largest contexts and what binds", () => {
    expect(explainPlan(plan, { title: "Llama 13B", width: 90 })).toMatchInlineSnapshot(`
      "Llama 13B

      context   8,192 tokens
      KV cache  f16, 8,192 tokens in the pool, 1 sequence
      prefill   chunks of 2,048 tokens
      split     even, cuda packing

      GiB     layers  weights  KV cache  scratch  baseline  total    cap  headroom
      cuda:0  0–12       2.00      2.03     0.06      0.50   4.59  20.00     15.41
      cuda:2  13–26      2.15      2.19     0.06      0.50   4.90  20.00     15.10
      cuda:3  27–39      2.30      2.03     0.06      0.50   4.89  20.00     15.11
      all                6.44      6.25     0.19      1.50  14.38  60.00     45.62
      cuda:1 is left out: the largest share of a cap is smaller without it

      cuda:0  ██████▓▓▓▓▓▓░░··············································  22.9 % of its cap
      cuda:2  ██████▓▓▓▓▓▓▓░░·············································  24.5 % of its cap
      cuda:3  ███████▓▓▓▓▓▓░░·············································  24.5 % of its cap
              █ weights  ▓ KV cache  ▒ scratch  ░ baseline

      largest contexts  f16 64,512   q8 127,488   q4 230,144
      what binds        --ctx
      note              the embeddings (312.5 MiB) stay in host memory, outside every cap"
    `);
  });

  it.each([60, 72, 80, 120])("keeps within %d columns", (width) => {
    for (const line of explainPlan(plan, { width }).split("\n")) expect(line.length).toBeLessThanOrEqual(Math.max(width, 70));
  });

  it("paints only where colours are wanted, and the same text", () => {
    const painted = explainPlan(plan, { color: true });
    expect(painted).toContain("\u001b[34m██");
    expect(stripVTControlCharacters(painted)).toBe(explainPlan(plan));
  });
});

describe("explainRefusal", () => {
  it("says what is missing where, and what would do", () => {
    expect(explainRefusal(refusal, { width: 90 })).toMatchInlineSnapshot(`
      "no plan: a context of 4096 tokens with an f16 cache does not fit: at best cuda:2 needs
      3.11 GiB of a cap of 3.00 GiB, 114 MiB (119537664 bytes) short

      GiB     needed   cap  short
      cuda:0    2.88  3.00   0.00
      cuda:1    2.88  3.00   0.00
      cuda:2    3.11  3.00   0.11
      cuda:3    2.95  3.00   0.00

      What would fit, each by itself:
        --ctx 3328
        --cache q8
        --cache q4
        --gpu-split 3GiB,3GiB,3186MiB,3GiB

      largest contexts  f16 3,328   q8 6,912   q4 12,544"
    `);
  });

  it("offers options that are read back exactly", () => {
    for (const bytes of [0, 5 * GiB, 3006477107, 3186 * 2 ** 20]) expect(parseSize(exactSize(bytes))).toBe(bytes);
  });
});

describe("the machine-readable form", () => {
  it("of a plan has the fields that others rely on", () => {
    const json = JSON.parse(JSON.stringify(planToJson(plan)));
    expect(json).toMatchObject({ ok: true, splitMode: "even", context: 8192, binding: "--ctx" });
    expect(Object.keys(json.largestContext)).toEqual(["f16", "q8", "q4"]);
    expect(json.devices.map((device: { id: string }) => device.id)).toEqual(["cuda:0", "cuda:1", "cuda:2", "cuda:3"]);
    const fields = ["id", "cap", "baseline", "weights", "kvCache", "scratch", "total", "headroom", "layers", "excluded"];
    for (const device of json.devices) {
      expect(Object.keys(device)).toEqual(expect.arrayContaining(fields));
      expect(device.total).toBe(device.baseline + device.weights + device.kvCache + device.scratch);
    }
    expect(json.devices[0].layers).toEqual({ first: 0, count: 13 });
    expect(json.devices[1]).toMatchObject({ baseline: 0, weights: 0, kvCache: 0, scratch: 0, total: 0, cap: GiB });
    expect(json.devices[1].excluded).toEqual(expect.any(String));
  });

  it("of a refusal has the fields that others rely on", () => {
    const json = JSON.parse(JSON.stringify(refusalToJson(refusal)));
    const { needed, cap } = json;
    expect(json).toMatchObject({ ok: false, code: "PLAN_DOES_NOT_FIT", device: "cuda:2", shortfall: needed - cap });
    expect(json.suggestions.map(({ change }: { change: string }) => change)).toEqual(["ctx", "cache", "cache", "gpuSplit"]);
    expect(json.largestContext).toEqual({ f16: 3328, q8: 6912, q4: 12544 });
  });
});
