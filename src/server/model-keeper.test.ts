import { pino } from "pino";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { type FakeLink, fakeLink } from "../../test/support/fake-engine.js";
import { loadOver } from "../engine/client.js";
import type { Model } from "../engine/model.js";
import { ModelReloadingError, ShuttingDownError } from "./errors.js";
import { ModelKeeper } from "./model-keeper.js";

const log = pino({ level: "silent" });

async function fakeModel(): Promise<{ model: Model; link: FakeLink }> {
  const link = fakeLink();
  return { model: await loadOver(link, "fake", {}), link };
}

describe("ModelKeeper", () => {
  beforeEach(
    () => void vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout", "setInterval", "clearInterval", "performance"] }),
  );
  afterEach(() => void vi.useRealTimers());

  it("gives its model, and gives it back when it is closed", async () => {
    const { model, link } = await fakeModel();
    const keeper = new ModelKeeper(model, { names: ["a"], load: () => Promise.reject(new Error("not asked")), log });
    expect(keeper.current()).toBe(model);
    await keeper.close();
    expect(link.engine.disposals).toBe(1);
    expect(() => keeper.current()).toThrow(ShuttingDownError);
  });

  it("loads the model again when its engine died, and refuses until then", async () => {
    const first = await fakeModel();
    const second = await fakeModel();
    let give: (model: Model) => void = () => {};
    const load = () => new Promise<Model>((resolve) => (give = resolve));
    const keeper = new ModelKeeper(first.model, { names: ["a"], load, log });
    first.link.die("SIGKILL");
    const failure = await first.model.tokenize("x").catch((error: unknown) => error);
    keeper.failed(first.model, failure);
    keeper.failed(first.model, failure); // every answer in flight says so
    expect(() => keeper.current()).toThrow(ModelReloadingError);
    await vi.advanceTimersByTimeAsync(0);
    give(second.model);
    await vi.advanceTimersByTimeAsync(0);
    expect(keeper.current()).toBe(second.model);
    expect(keeper.deaths).toBe(1);
    await keeper.close();
  });

  it("is not moved by other failures, nor by those of a model it no longer has", async () => {
    const { model } = await fakeModel();
    const other = await fakeModel();
    other.link.die("SIGKILL");
    const keeper = new ModelKeeper(model, { names: ["a"], load: () => Promise.reject(new Error("not asked")), log });
    keeper.failed(model, new Error("something else"));
    keeper.failed(other.model, await other.model.tokenize("x").catch((error: unknown) => error));
    expect(keeper.current()).toBe(model);
    await keeper.close();
  });

  it("notices an idle engine's death by itself", async () => {
    const first = await fakeModel();
    const second = await fakeModel();
    const keeper = new ModelKeeper(first.model, { names: ["a"], load: async () => second.model, log });
    first.link.die("SIGKILL");
    await vi.advanceTimersByTimeAsync(5000);
    expect(keeper.current()).toBe(second.model);
    await keeper.close();
  });

  it("waits longer and longer where loading fails again and again, and never gives up", async () => {
    const first = await fakeModel();
    const last = await fakeModel();
    const tries: number[] = [];
    const load = async () => {
      tries.push(performance.now());
      if (tries.length < 6) throw new Error("no memory");
      return last.model;
    };
    const keeper = new ModelKeeper(first.model, { names: ["a"], load, log });
    first.link.die("SIGKILL");
    await vi.advanceTimersByTimeAsync(120_000);
    expect(tries).toHaveLength(6);
    const waits = tries.slice(1).map((at, i) => at - tries[i]!);
    expect(waits).toEqual([...waits].sort((a, b) => a - b));
    expect(waits.at(-1)).toBeGreaterThan(waits[0]! * 4);
    expect(keeper.current()).toBe(last.model);
    await keeper.close();
  });

  it("ends a load that is under way when it is closed", async () => {
    const { model, link } = await fakeModel();
    let aborted = false;
    const load = (signal: AbortSignal) =>
      new Promise<Model>((_, reject) =>
        signal.addEventListener("abort", () => {
          aborted = true;
          reject(signal.reason);
        }),
      );
    const keeper = new ModelKeeper(model, { names: ["a"], load, log });
    link.die("SIGKILL");
    await vi.advanceTimersByTimeAsync(5000);
    await keeper.close();
    expect(aborted).toBe(true);
  });
});
