import { describe, expect, it } from "vitest";
import type { PlanOptions } from "../../../src/engine/model.js";
import { resolvePlan } from "../../../src/engine/planning.js";
import type { Plan, PlanDevice, PlanRefusal } from "../../../src/memory/plan.js";
import { GiB, MiB } from "../../../src/memory/size.js";
import { llama7b, makeSpec } from "../../../test/support/shapes.js";
import { accept, commandLine, replan, wishesOf } from "./replan.js";

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

/** What the server would tell the page of a model that was loaded with these options. */
function loaded(options: PlanOptions) {
  const { request, plan } = resolvePlan(spec, options, cpu);
  const planning = JSON.parse(JSON.stringify({ ...request, packing: request.packing.name })) as typeof request & {
    packing: "cpu";
  };
  return { planning, plan: plan as Plan };
}

describe("replan", () => {
  it.each<PlanOptions>([
    {},
    { cpuExact: true },
    { devices: "24GiB,24GiB" },
    { devices: "8GiB:1GiB,24GiB", gpuSplit: "5,8GiB", cache: "q8", ctx: 2048, maxSequences: 4, cacheTokens: 8192 },
  ])("with the wishes that were met makes the plan that was loaded: %j", (options) => {
    const { planning, plan } = loaded(options);
    expect(replan(planning, wishesOf(planning, plan))).toEqual({ ...plan, binding: expect.any(String) });
  });

  it("refuses what the server would refuse, and each suggestion would do", () => {
    const { planning, plan } = loaded({ devices: "24GiB", ctx: 4096 });
    const wishes = { ...wishesOf(planning, plan), caps: [5 * GiB] };
    const refusal = replan(planning, wishes) as PlanRefusal;
    expect(refusal.ok).toBe(false);
    expect(refusal.suggestions.length).toBeGreaterThan(0);
    for (const suggestion of refusal.suggestions)
      expect(replan(planning, accept(wishes, suggestion)), suggestion.change).toMatchObject({ ok: true });
  });

  it("says in words what does not go together", () => {
    const { planning, plan } = loaded({});
    expect(replan(planning, { ...wishesOf(planning, plan), context: 4096, cacheTokens: 256 })).toContain(
      "does not go into a cache",
    );
  });
});

describe("commandLine", () => {
  it("names what the plan depends on, and no cap that comes by itself", () => {
    const { planning, plan } = loaded({ ctx: 1024 });
    const wishes = wishesOf(planning, plan);
    const start = "exllama serve ./llama";
    expect(commandLine(start, planning, wishes)).toBe(`${start} --ctx 1024 --cache f16 --max-sequences 1 --prefill-chunk 256`);
    expect(commandLine(start, planning, { ...wishes, caps: [6 * GiB], cacheTokens: 4096 })).toBe(
      `${start} --ctx 1024 --cache f16 --cache-tokens 4096 --max-sequences 1 --prefill-chunk 256 --cpu-memory 6GiB`,
    );
  });

  it("writes splits and split modes for GPUs", () => {
    const { planning, plan } = loaded({ devices: "24GiB,24GiB", gpuSplit: "5,2560MiB", ctx: 512 });
    expect(commandLine("exllama serve", planning, wishesOf(planning, plan))).toMatch(
      /--gpu-split 5GiB,2560MiB --split-mode even$/,
    );
  });
});
