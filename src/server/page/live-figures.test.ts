import { afterEach, describe, expect, it, vi } from "vitest";
import type { EngineStatus, Model } from "../../engine/model.js";
import type { ModelSource } from "../model-source.js";
import { pageApi } from "./api.js";
import { LiveFigures } from "./live-figures.js";

let generatedTokens = 0;
const status = async (): Promise<EngineStatus> => ({
  scheduler: { waiting: 1, running: 2, idle: 3, freePages: [4], reservedPages: [0], idlePages: [0], totalPages: [8] },
  counters: { steps: 1, promptTokens: 5, generatedTokens: ++generatedTokens, reusedTokens: 0, preemptions: 0 },
  guesses: { proposed: 0, accepted: 0 },
  devices: [{ id: "cpu", planned: 100, measured: 90 }],
});
const models = { names: ["demo"], created: 0, current: () => ({ status }) as unknown as Model, failed: () => {} } as ModelSource;
const metrics = {
  figures: {
    promptTokens: 0,
    generatedTokens: 0,
    firstToken: { count: 1, seconds: 0.5 },
    betweenTokens: { count: 4, seconds: 0.1 },
  },
};

afterEach(() => vi.useRealTimers());

describe("LiveFigures", () => {
  it("looks every two seconds, and forgets the oldest of a quarter of an hour", async () => {
    vi.useFakeTimers();
    const live = new LiveFigures({ models, metrics });
    await vi.advanceTimersByTimeAsync(20 * 60_000);
    const samples = live.since(0);
    expect(samples).toHaveLength(450);
    expect(samples.at(-1)!.time - samples[0]!.time).toBe(449 * 2000);
    live.dispose();
    await vi.advanceTimersByTimeAsync(10_000);
    expect(live.since(samples.at(-1)!.time)).toEqual([]);
  });

  it("leaves out the time in which there is no model", async () => {
    vi.useFakeTimers();
    let loaded = false;
    const current = () => {
      if (!loaded) throw new Error("being loaded");
      return models.current();
    };
    const live = new LiveFigures({ models: { current }, metrics });
    await vi.advanceTimersByTimeAsync(5000);
    expect(live.since(0)).toEqual([]);
    loaded = true;
    await vi.advanceTimersByTimeAsync(2000);
    expect(live.since(0)).toHaveLength(1);
    live.dispose();
  });

  it("is told to the page: what is now, and what the page has not seen", async () => {
    vi.useFakeTimers();
    const live = new LiveFigures({ models, metrics });
    const app = pageApi({ models, live, command: "exllama serve" });
    const first = await live.sample();
    vi.setSystemTime(Date.now() + 1500);
    const later = (await (await app.request(`/status?since=${first.time}`)).json()) as { now: unknown; samples: unknown[] };
    expect(later.now).toMatchObject({
      running: 2,
      waiting: 1,
      pages: { free: 4, total: 8 },
      firstToken: { count: 1, seconds: 0.5 },
    });
    expect(later.samples).toEqual([later.now]);
    const all = (await (await app.request("/status?since=x")).json()) as { samples: unknown[] };
    expect(all.samples).toHaveLength(2); // just looked
    live.dispose();
  });
});
