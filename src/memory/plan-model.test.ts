import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { bruteForce } from "../../test/support/brute-force.js";
import { packingArbitrary, shapeArbitrary } from "../../test/support/random-models.js";
import { llama3_8b, llama13b, makeSpec } from "../../test/support/shapes.js";
import { simpleDevices, simplePacking } from "../../test/support/simple-packing.js";
import { cpuExactPacking } from "../backend/cpu/packing.js";
import { UsageError } from "../errors.js";
import { entriesOf } from "./caps.js";
import { PlanRefusedError } from "./errors.js";
import type { Plan, PlanDevice, PlanRefusal } from "./plan.js";
import { planModel } from "./plan-model.js";
import { MOST_CONTEXT, type PlanRequest, runShape, settingsOf } from "./plan-request.js";
import { GiB, MiB } from "./size.js";
import { StageCosts } from "./stage-costs.js";

const request: PlanRequest = {
  spec: makeSpec(llama13b),
  packing: simplePacking(),
  devices: simpleDevices(24, 24, 24, 24),
  caps: "auto",
  context: "auto",
  cacheType: "f16",
};

/** Devices of some MiB, some of them the same card, with caps or without. */
const devicesArbitrary = fc.integer({ min: 1, max: 4 }).chain((count) =>
  fc.record({
    cards: fc.array(fc.constantFrom("a", "b", "c", "d"), { minLength: count, maxLength: count }),
    totals: fc.array(fc.integer({ min: 1, max: 12 * MiB }), { minLength: 4, maxLength: 4 }),
    baselines: fc.array(fc.integer({ min: 0, max: MiB }), { minLength: 4, maxLength: 4 }),
    caps: fc.array(fc.double({ min: 0, max: 1, noNaN: true }), { minLength: 1, maxLength: count }),
    auto: fc.boolean(),
  }),
);

const requestArbitrary: fc.Arbitrary<PlanRequest> = fc
  .record({
    shape: shapeArbitrary,
    packing: packingArbitrary,
    room: devicesArbitrary,
    cacheType: fc.constantFrom("f16", "q8", "q4"),
    splitMode: fc.constantFrom(undefined, "even", "fewest", "fill"),
    maxSequences: fc.constantFrom(1, 3),
    draft: fc.option(shapeArbitrary, { nil: undefined, freq: 4 }),
  })
  .map(({ shape, packing, room, cacheType, splitMode, maxSequences, draft }) => {
    const devices = room.cards.map((card): PlanDevice => {
      const n = "abcd".indexOf(card);
      const figures = { total: room.totals[n]!, usedByOthers: 0, baseline: room.baselines[n]!, reserve: 1000 };
      return { id: card, card, baselineSource: "table", ...figures };
    });
    const sharing = (card: string) => room.cards.filter((other) => other === card).length;
    const caps = room.caps.map((share, n) => Math.floor((share * devices[n]!.total) / sharing(devices[n]!.card)));
    return {
      spec: makeSpec(shape),
      packing,
      devices,
      caps: room.auto ? "auto" : caps,
      context: "max",
      cacheType,
      maxSequences,
      prefillChunk: 64,
      ...(splitMode ? { splitMode } : {}),
      ...(draft ? { draft: makeSpec(draft) } : {}),
    };
  });

function expectWithinCaps(plan: Plan, { spec, devices, draft }: PlanRequest): void {
  const paid = new Set<string>();
  let next = 0;
  for (const [n, device] of plan.devices.entries()) {
    expect(device.id).toBe(devices[n]!.id);
    expect(device.total).toBe(device.baseline + device.weights + device.kvCache + device.scratch);
    expect(device.total).toBeLessThanOrEqual(device.cap);
    expect(device.headroom).toBe(device.cap - device.total);
    if (device.excluded !== null) {
      expect(device).toMatchObject({ total: 0, layers: { count: 0 }, stage: null, draft: null });
      continue;
    }
    expect(device.baseline).toBe(paid.has(device.card) ? 0 : devices[n]!.baseline);
    paid.add(device.card);
    if (device.layers.count > 0) expect(device.layers.first).toBe(next);
    next += device.layers.count;
    const allocated = [device.stage, device.draft].flatMap((stage) => stage?.arenas ?? []);
    expect(allocated.reduce((sum, { bytes }) => sum + bytes, device.baseline)).toBe(device.total);
  }
  expect(next).toBe(spec.layers.length);
  expect(plan.devices.filter((device) => device.draft)).toHaveLength(draft ? 1 : 0);
}

/** The answer of a planner that tries everything. */
function worstOvershootByHand(one: PlanRequest, context: number): number | null {
  const settings = settingsOf(one);
  const run = runShape(settings, context, one.cacheType, settings.prefillChunks.at(-1)!);
  const draft = one.draft ? new StageCosts(one.draft, one.packing).of(run).stage(0, one.draft.layers.length) : 0;
  const entries = entriesOf(one.devices, one.caps);
  const costs = new StageCosts(one.spec, one.packing).of(run).table();
  const best = bruteForce({ entries, layerCount: one.spec.layers.length, costs, draft }, "closest");
  return best && Math.max(...best.use.map((use, n) => (use > 0 ? use - entries[n]!.cap : Number.NEGATIVE_INFINITY)));
}

describe("planModel", () => {
  it("keeps every cap, and finds the context beyond which nothing fits", () => {
    let planned = 0;
    fc.assert(
      fc.property(requestArbitrary, (one) => {
        const plan = planModel(one);
        if (!plan.ok) return;
        planned++;
        expectWithinCaps(plan, one);
        expect(plan.largestContext[one.cacheType as "f16"]).toBe(plan.context);
        if (plan.context < MOST_CONTEXT) {
          expect(plan.binding).toMatch(/ memory$/);
          expect(planModel({ ...one, context: plan.context + 256 }).ok).toBe(false);
          if (one.packing.maxArena === Number.POSITIVE_INFINITY)
            expect(worstOvershootByHand(one, plan.context + 256) ?? 1).toBeGreaterThan(0);
        }
      }),
      { numRuns: 1000 },
    );
    expect(planned).toBeGreaterThan(100);
  });

  it("reports the largest context of every cache type as what can be planned and not exceeded", () => {
    fc.assert(
      fc.property(requestArbitrary, (one) => {
        const { largestContext } = planModel({ ...one, context: 256 });
        for (const cacheType of ["f16", "q8", "q4"] as const) {
          const context = largestContext[cacheType];
          if (context > 0) expect(planModel({ ...one, cacheType, context }).ok).toBe(true);
          if (context < MOST_CONTEXT) expect(planModel({ ...one, cacheType, context: context + 256 }).ok).toBe(false);
        }
      }),
      { numRuns: 300 },
    );
  });

  it("refuses with the smallest worst overshoot, and every suggestion would do", () => {
    let refused = 0;
    fc.assert(
      fc.property(requestArbitrary, fc.constantFrom(256, 1000, 20000), (one, context) => {
        const result = planModel({ ...one, context });
        if (result.ok) return;
        refused++;
        if (result.code === "PLAN_DOES_NOT_FIT") {
          expect(result.shortfall).toBe(worstOvershootByHand(one, context));
          expect(result.shortfall).toBe(result.needed! - result.cap!);
        }
        for (const { change, value } of result.suggestions) {
          const changed =
            change === "ctx"
              ? { context: value }
              : change === "cache"
                ? { cacheType: value }
                : { caps: value, splitMode: "even" };
          expect(planModel({ ...one, context, ...(changed as Partial<PlanRequest>) })).toMatchObject({ ok: true });
        }
      }),
      { numRuns: 700 },
    );
    expect(refused).toBeGreaterThan(100);
  });

  it("gives the same plan for the same request", () => {
    expect(planModel(request)).toEqual(planModel(request));
  });
});

describe("context", () => {
  const choose = (change: Partial<PlanRequest>) => {
    const plan = planModel({ ...request, ...change }) as Plan;
    return [plan.context, plan.binding];
  };
  const limited = makeSpec({ ...llama13b, contextLimit: 4096 });

  it.each<[string, Partial<PlanRequest>, number, string | RegExp]>([
    ["auto: 8192 where more would fit", {}, 8192, /at most 8192/],
    ["auto: the model's limit", { spec: limited }, 4096, "model limit"],
    ["auto: what fits", { caps: [3, 3, 3, 3].map((gib) => gib * GiB) }, 3328, "cuda:2 memory"],
    ["auto: the pool that was asked for", { cacheTokens: 1000 }, 1000, "--cache-tokens"],
    ["max: all that fits", { caps: [8 * GiB], spec: makeSpec(llama3_8b) }, 25088, "cuda:0 memory"],
    ["max: the model's limit", { spec: limited, context: "max" }, 4096, "model limit"],
    ["a number", { context: 1000 }, 1000, "--ctx"],
  ])("%s", (name, change, context, binding) => {
    const chosen = choose({ ...(name.startsWith("max") ? { context: "max" as const } : {}), ...change });
    expect(chosen[0]).toBe(context);
    expect(chosen[1]).toEqual(typeof binding === "string" ? binding : expect.stringMatching(binding));
  });

  it("takes any number of tokens and rounds the pool up to pages", () => {
    const plan = planModel({ ...request, context: 1000 }) as Plan;
    expect(plan.run).toMatchObject({ context: 1000, cacheTokens: 1024 });
    expect(plan.cacheGroups).toEqual([expect.objectContaining({ pages: 4, pagesPerSequence: 4 })]);
  });

  it("above the model's limit is refused, with the limit as the suggestion", () => {
    const refusal = planModel({ ...request, spec: limited, context: 5000 }) as PlanRefusal;
    expect(refusal).toMatchObject({ ok: false, code: "PLAN_CONTEXT_ABOVE_MODEL_LIMIT", device: null });
    expect(refusal.suggestions).toEqual([{ change: "ctx", value: 4096 }]);
    expect(refusal.message).toMatch(/limit of 4096.*--rope-scale/);
  });

  it("is bounded where a window bounds the cache", () => {
    const spec = makeSpec({ ...llama13b, windows: Array(40).fill(1024) });
    const plan = planModel({ ...request, spec, context: "max" }) as Plan;
    expect(plan.context).toBe(MOST_CONTEXT);
    expect(plan.notes.join()).toMatch(/searched up to 16777216 tokens/);
  });
});

describe("split modes", () => {
  const counts = (change: Partial<PlanRequest>) =>
    (planModel({ ...request, context: 2048, ...change }) as Plan).devices.map(({ layers }) => layers.count);

  it("uses as few devices as hold the model when caps are automatic", () => {
    expect(counts({ devices: simpleDevices(24, 24, 24, 25) })).toEqual([0, 0, 0, 40]);
    expect(counts({ devices: simpleDevices(6, 6.5, 6.5) })).toEqual([0, 21, 19]);
  });

  it("breaks ties by the lexicographically smallest layer counts", () => {
    expect(counts({})).toEqual([0, 0, 0, 40]);
  });

  it("spreads evenly when caps are given", () => {
    expect(counts({ caps: [8, 8, 8, 8].map((gib) => gib * GiB) })).toEqual([10, 10, 11, 9]);
  });

  it("fills in order with true totals", () => {
    expect(counts({ splitMode: "fill", caps: [3, 3, 3, 3].map((gib) => gib * GiB) })).toEqual([12, 12, 12, 4]);
  });
});

describe("refusals", () => {
  const refusal = (change: Partial<PlanRequest>) => {
    const result = planModel({ ...request, ...change });
    if (result.ok) throw new Error("this was planned");
    return result;
  };

  it("say when no device can be used, and what one would need", () => {
    const result = refusal({ caps: [0.4 * GiB, 0.5 * GiB].map(Math.floor), context: 2048 });
    expect(result.code).toBe("PLAN_NO_DEVICE");
    expect(result.shortfall).toBe(result.needed! - result.cap!);
    const { value } = result.suggestions.find(({ change }) => change === "gpuSplit")!;
    expect(planModel({ ...request, context: 2048, caps: value as number[] })).toMatchObject({ ok: true });
  });

  it("offer no caps beyond what is free", () => {
    const result = refusal({ devices: simpleDevices(3, 3), caps: [2 * GiB, 2 * GiB], context: 2048 });
    expect(result.suggestions.filter(({ change }) => change === "gpuSplit")).toEqual([]);
  });

  it("name the cache types that the backend runs", () => {
    const result = refusal({ packing: cpuExactPacking, cacheType: "q8" });
    expect(result).toMatchObject({ code: "PLAN_CACHE_TYPE", suggestions: [{ change: "cache", value: "f32" }] });
  });

  it("say when one layer is larger than one memory may be", () => {
    const result = refusal({ packing: { ...simplePacking(), maxArena: 512 * MiB }, context: 100_000 });
    expect(result.code).toBe("PLAN_ARENA_TOO_SMALL");
    expect(result.suggestions).toContainEqual({ change: "ctx", value: result.largestContext.f16 });
  });

  it("become errors that say what would fit", () => {
    const error = new PlanRefusedError(refusal({ caps: [3, 3, 3, 3].map((gib) => gib * GiB), context: 4096 }));
    expect(error.code).toBe("PLAN_DOES_NOT_FIT");
    expect(error.hint).toBe("what would fit: --ctx 3328, or --cache q8, or --cache q4, or --gpu-split 3GiB,3GiB,3186MiB,3GiB");
    expect(error.details).toMatchObject({ device: "cuda:2", cap: 3 * GiB });
  });
});

describe("figures that mean nothing", () => {
  it.each<[string, Partial<PlanRequest>, RegExp]>([
    ["no devices", { devices: [] }, /no device/],
    ["more caps than devices", { caps: [1, 2, 3, 4, 5] }, /5 caps for 4 devices/],
    ["a cap of half a byte", { caps: [0.5] }, /not a size/],
    ["a context of 0", { context: 0 }, /context of 0/],
    ["a context of half a token", { context: 0.5 }, /context of 0.5/],
    ["no sequences", { maxSequences: 0 }, /sequences of 0/],
    ["an endless prefill chunk", { prefillChunk: 1e9 }, /prefill chunk/],
    ["a context larger than its pool", { context: 4096, cacheTokens: 2048 }, /does not go into a cache of 2048/],
    ["a thousand devices", { devices: Array(1000).fill(simpleDevices(24)[0]) }, /1000 devices/],
  ])("%s", (_, change, message) => {
    expect(() => planModel({ ...request, ...change })).toThrow(UsageError);
    expect(() => planModel({ ...request, ...change })).toThrow(message);
  });
});
