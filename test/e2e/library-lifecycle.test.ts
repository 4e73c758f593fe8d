// Loading and giving back, on the embedded model: engines come and go, nothing stays.

import { afterEach, describe, expect, it } from "vitest";
import { demoModel, loadModel, type Model, ModelDisposedError, PlanRefusedError, plan, UsageError } from "../../src/index.js";
import { childrenOf, until } from "../support/processes.js";

const OPTIONS = { ctx: 512, threads: 1 } as const;
const models: Model[] = [];

async function load(options: Parameters<typeof loadModel>[1] = OPTIONS): Promise<Model> {
  const model = await loadModel(demoModel, options);
  models.push(model);
  return model;
}

describe("a loaded model", () => {
  afterEach(async () => {
    for (const model of models.splice(0)) await model.dispose();
    expect(childrenOf(process.pid)).toEqual([]);
  });

  it("is one process, which is gone when dispose() has resolved", async () => {
    const model = await load();
    expect(childrenOf(process.pid)).toHaveLength(1);
    await model.dispose();
    expect(childrenOf(process.pid)).toEqual([]);
    await model.dispose();
  });

  it("is refused after disposal, and ends what was in flight", async () => {
    const model = await load();
    const { result } = model.generate("Once", { maxTokens: 400, ignoreEos: true });
    const disposal = model[Symbol.asyncDispose]();
    await expect(result).rejects.toBeInstanceOf(ModelDisposedError);
    await disposal;
    expect(() => model.generate("Once")).toThrow(ModelDisposedError);
    expect(() => model.chat([{ role: "user", content: "hi" }])).toThrow(ModelDisposedError);
    for (const use of [
      () => model.tokenize("a"),
      () => model.detokenize([1]),
      () => model.logits([1]),
      () => model.logprobs([1, 2]),
    ])
      await expect(use()).rejects.toMatchObject({ code: "MODEL_DISPOSED" });
  });

  it("can be loaded three times in sequence, and gives the same answer each time", async () => {
    const answers: string[] = [];
    for (let round = 0; round < 3; round++) {
      const model = await load();
      answers.push((await model.generate("Once", { maxTokens: 8, temperature: 0 }).result).text);
      await model.dispose();
    }
    expect(new Set(answers).size).toBe(1);
  });

  it("runs beside another one", async () => {
    const [a, b] = await Promise.all([load(), load({ ...OPTIONS, engine: "thread" })]);
    const ask = (model: Model) => model.generate("Once", { maxTokens: 8, temperature: 0 }).result;
    const [first, second] = await Promise.all([ask(a), ask(b)]);
    expect(first.ids).toEqual(second.ids);
    await a.dispose();
    expect((await ask(b)).ids).toEqual(first.ids);
  });
});

describe("loading", () => {
  it("that is aborted rejects with the signal's reason and leaves nothing", async () => {
    const reason = new Error("changed my mind");
    await expect(loadModel(demoModel, { ...OPTIONS, signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
    const controller = new AbortController();
    const loading = loadModel(demoModel, { ...OPTIONS, signal: controller.signal });
    await until(() => childrenOf(process.pid).length === 1);
    controller.abort(reason);
    await expect(loading).rejects.toBe(reason);
    expect(childrenOf(process.pid)).toEqual([]);
  });

  it.each(["process", "thread"] as const)("of what does not fit is refused with the plan's own reasons (%s)", async (engine) => {
    const refused = await loadModel(demoModel, { ...OPTIONS, engine, cpuMemory: "1MiB" }).catch((error: unknown) => error);
    expect(refused).toBeInstanceOf(PlanRefusedError);
    expect((refused as PlanRefusedError).refusal).toMatchObject({ ok: false, device: "cpu" });
    expect(childrenOf(process.pid)).toEqual([]);
  });

  it.each([
    ["a folder that does not exist", "/no/such/folder", {}, "CHECKPOINT_NOT_FOUND"],
    ["an option that does not exist", demoModel, { context: 5 }, "USAGE"],
    ["an engine that does not exist", demoModel, { engine: "gpu" }, "USAGE"],
    ["a context of no tokens", demoModel, { ctx: 0 }, expect.any(String)],
  ])("of %s is refused", async (_, path, options, code) => {
    await expect(loadModel(path, options as object)).rejects.toMatchObject({ code });
    expect(childrenOf(process.pid)).toEqual([]);
  });
});

describe("plan", () => {
  it("is what loading would allocate", async () => {
    const planned = await plan(demoModel, { ctx: OPTIONS.ctx });
    const model = await loadModel(demoModel, OPTIONS);
    await model.dispose();
    const sizes = ({ devices }: typeof planned) =>
      devices.map(({ weights, kvCache, scratch }) => ({ weights, kvCache, scratch }));
    expect(sizes(planned)).toEqual(sizes(model.plan));
  });

  it("plans devices that are not there", async () => {
    const { devices } = await plan(demoModel, { devices: "a=1GiB,b=1GiB", gpuSplit: "1,1", ctx: 512 });
    expect(devices.map(({ id }) => id)).toEqual(["a", "b"]);
  });

  it("refuses what does not fit, and says what would", async () => {
    await expect(plan(demoModel, { devices: "a=600MiB", ctx: 512, gpuSplit: "0.53" })).rejects.toBeInstanceOf(PlanRefusedError);
    await expect(plan(demoModel, { gpuSplit: "5,,2" })).rejects.toBeInstanceOf(UsageError);
    expect(childrenOf(process.pid)).toEqual([]);
  });
});
