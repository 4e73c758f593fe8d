// Rows on a stand-in for a model, whose answers take no time worth measuring.

import { setTimeout as wait } from "node:timers/promises";
import { describe, expect, it } from "vitest";
import { llama7b, makeSpec } from "../../../test/support/shapes.js";
import type { CardMeters } from "../../engine/card-meters.js";
import { resolvePlan } from "../../engine/planning.js";
import type { GenerateOptions, GenerationEvent, Model } from "../../index.js";
import type { Plan, PlanDevice } from "../../memory/plan.js";
import { GiB } from "../../memory/size.js";
import { type MeasureOptions, RowRunner } from "./measure.js";
import { stepTraffic } from "./traffic.js";

const cpu: PlanDevice = {
  ...{ id: "cpu", card: "cpu", total: 64 * GiB, usedByOthers: 0, baseline: 0, reserve: 0 },
  baselineSource: "measured",
};
const plan = resolvePlan(makeSpec(llama7b), { devices: "80GiB", ctx: 2048 }, cpu).plan as Plan;

interface Asked {
  readonly prompt: readonly number[];
  readonly options: GenerateOptions;
}

function standIn(asked: Asked[], reusedTokens = 0): Model {
  const generate = (prompt: readonly number[], options: GenerateOptions) => {
    asked.push({ prompt, options });
    async function* events(): AsyncGenerator<GenerationEvent> {
      for (let i = 0; i < options.maxTokens!; i++) {
        await wait(1);
        options.signal?.throwIfAborted();
        yield { text: "", ids: [7] };
      }
    }
    return { events, result: Promise.resolve({ timings: { promptTokensPerSecond: 1000, reusedTokens } }) };
  };
  return { info: { vocabSize: 32000 }, plan, generate } as unknown as Model;
}

function runnerOf(model: Model, joules: CardMeters["joules"], options: Partial<MeasureOptions> = {}): RowRunner {
  const meters: CardMeters = { card: "a card", driver: "1", joules, readRate: () => null };
  const signal = new AbortController().signal;
  return new RowRunner(model, meters, {
    repeat: 3,
    warmups: 1,
    guessing: false,
    adapters: {},
    signal,
    onRun: () => {},
    ...options,
  });
}

/** A card that uses 5 joules between any two questions. */
function counting(): () => number {
  let joules = 0;
  return () => (joules += 5);
}

describe("RowRunner", () => {
  it("gives every prompt row a prompt of its own, and leaves warm-ups out", async () => {
    const asked: Asked[] = [];
    const { tokensPerSecond, joulesPerToken, held, stepBytes } = await runnerOf(standIn(asked), counting()).measure({
      kind: "prompt",
      tokens: 100,
    });
    expect(tokensPerSecond).toEqual({ mean: 1000, deviation: 0, median: 1000, samples: [1000, 1000, 1000] });
    expect(joulesPerToken).toBeCloseTo(5 / 100, 12);
    expect([held, stepBytes]).toEqual([null, null]);
    expect(asked.map(({ prompt }) => prompt.length)).toEqual([100, 100, 100, 100]);
    expect(new Set(asked.map(({ prompt }) => prompt[0])).size).toBe(4);
    expect(asked[0]!.options).toMatchObject({ maxTokens: 1, temperature: 0, ignoreEos: true });
  });

  it("gives sequences of a batch different prompts, the same ones in each run", async () => {
    const asked: Asked[] = [];
    const row = { kind: "decode", tokens: 8, depth: 50, batch: 3 } as const;
    const { held, stepBytes, bytesPerSecond, tokensPerSecond } = await runnerOf(standIn(asked), () => null).measure(row);
    const firsts = asked.map(({ prompt }) => prompt[0]);
    expect(new Set(firsts.slice(0, 3)).size).toBe(3);
    expect(firsts).toEqual([...firsts.slice(0, 3), ...firsts.slice(0, 3), ...firsts.slice(0, 3), ...firsts.slice(0, 3)]);
    expect(held).toBeGreaterThan(50);
    expect(held).toBeLessThanOrEqual(50 + 8);
    const traffic = stepTraffic(plan);
    expect(stepBytes).toBe(Math.round(traffic.weights + 3 * traffic.cache(held!)));
    expect(bytesPerSecond).toBeCloseTo((stepBytes! * tokensPerSecond.median) / 3, 0);
  });

  it("is no faster for a card that takes its time to tell its energy", async () => {
    const row = { kind: "decode", tokens: 40, depth: 0, batch: 2 } as const;
    const delay = 150;
    let joules = 0;
    const slow = () => {
      for (const until = performance.now() + delay; performance.now() < until; );
      joules += 2;
      return joules;
    };
    const { tokensPerSecond, joulesPerToken } = await runnerOf(standIn([]), slow, { repeat: 1, warmups: 0 }).measure(row);
    // The answer is waited for in the middle of what is timed: 39 tokens of each sequence cannot have taken less.
    expect(tokensPerSecond.median).toBeLessThanOrEqual((2 * 39 * 1000) / delay);
    // The card's two joules are for what came behind its answer: all but two tokens of the sequence that began last, at least.
    expect(joulesPerToken).toBeLessThanOrEqual(2 / 38);
    expect(joulesPerToken).toBeGreaterThanOrEqual(2 / 78);
  });

  it("does a run again whose tokens came all at once, and gives up when they always do", async () => {
    const row = { kind: "decode", tokens: 4, depth: 0, batch: 1 } as const;
    const lumps = (howMany: number) => {
      const asked: Asked[] = [];
      const model = standIn(asked);
      const generate = model.generate.bind(model);
      const lump = async function* (): AsyncGenerator<GenerationEvent> {
        yield { text: "", ids: [7, 7, 7, 7] };
      };
      model.generate = ((prompt: number[], options: GenerateOptions) => {
        const generation = generate(prompt, options);
        return asked.length <= howMany ? { ...generation, events: lump } : generation;
      }) as Model["generate"];
      return { asked, measured: runnerOf(model, () => null, { repeat: 1, warmups: 0 }).measure(row) };
    };
    const late = lumps(2);
    expect((await late.measured).tokensPerSecond.samples).toHaveLength(1);
    expect(late.asked).toHaveLength(3);
    await expect(lumps(100).measured).rejects.toMatchObject({ code: "BENCH_TOO_SHORT" });
  });

  it("says nothing of bytes where steps guess ahead, and nothing of energy where none was counted", async () => {
    const row = { kind: "decode", tokens: 4, depth: 0, batch: 1 } as const;
    for (const joules of [() => null, () => 12]) {
      const measured = await runnerOf(standIn([]), joules, { guessing: true }).measure(row);
      expect(measured).toMatchObject({ stepBytes: null, bytesPerSecond: null, joulesPerToken: null });
    }
  });

  it("takes no prompt for measured that was in the cache", async () => {
    await expect(runnerOf(standIn([], 16), () => null).measure({ kind: "prompt", tokens: 100 })).rejects.toThrow(/16 tokens/);
  });

  it("ends with the caller's reason when it is interrupted", async () => {
    const controller = new AbortController();
    const reason = new Error("interrupted");
    const onRun = () => void setTimeout(() => controller.abort(reason), 5);
    const runner = runnerOf(standIn([]), () => null, { signal: controller.signal, onRun });
    await expect(runner.measure({ kind: "decode", tokens: 500, depth: 0, batch: 2 })).rejects.toBe(reason);
  });
});
