import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { Driver } from "../../test/conformance/driver.js";
import { FAKE_CARD, FakeCuda } from "../../test/support/fake-cuda.js";
import { fixture } from "../../test/support/fixtures.js";
import { openCheckpoint } from "../checkpoint/local.js";
import { type PlanRequest, planModel } from "../memory/plan-model.js";
import { MiB } from "../memory/size.js";
import { readModel } from "../model/read.js";
import type { Backend, LoadProgress, Runtime } from "./backend.js";
import { createCpuBackend } from "./cpu/index.js";
import { createCudaBackend } from "./cuda/index.js";

const shape = { context: 512, prefillChunk: 64, maxSequences: 2, cacheType: "f16", caps: "auto" } as const;
const models = { model: fixture("demo-gptq-4bit-g128"), draft: fixture("draft-fp16") };

async function loadBoth(
  backend: Backend,
  onProgress?: (progress: LoadProgress) => void,
  wishes: Partial<PlanRequest> = {},
): Promise<Runtime> {
  await using model = await opened(models.model);
  await using draft = await opened(models.draft);
  const plan = planModel({
    ...shape,
    spec: model.spec,
    draft: draft.spec,
    packing: backend.packing,
    devices: backend.devices(),
    ...wishes,
  });
  if (!plan.ok) throw new Error(plan.message);
  return await backend.load({ plan, ...model, draft, ...(onProgress ? { onProgress } : {}) });
}

async function opened(folder: string) {
  const checkpoint = await openCheckpoint(folder);
  return { checkpoint, spec: readModel(checkpoint), [Symbol.asyncDispose]: () => checkpoint.close() };
}

const prompt = [1, 4025, 3, 16, 120, 7, 900];

describe("a model and its draft, loaded together", () => {
  it("say what each says alone, on pages of their own, and are given back together", async () => {
    const backend = createCpuBackend({ threads: 2 });
    const alone: number[][] = [];
    for (const folder of [models.model, models.draft]) {
      await using driver = await Driver.load(backend, folder, { ...shape });
      alone.push(await driver.greedy(prompt, 12));
    }
    expect(alone[0]).not.toEqual(alone[1]);

    const runtime = await loadBoth(backend);
    const both = [new Driver(runtime), new Driver(runtime.draft!)];
    const together = await Promise.all(both.map((driver) => driver.greedy(prompt, 12)));
    expect(together).toEqual(alone);
    await runtime.dispose();
    await expect(runtime.draft!.copyPages([])).rejects.toMatchObject({ code: "CPU_RUNTIME_ENDED" });
  });

  it("count the bytes of both as one progress", async () => {
    const seen: LoadProgress[] = [];
    const runtime = await loadBoth(createCpuBackend({ threads: 1 }), (progress) => seen.push(progress));
    await runtime.dispose();
    const loaded = seen.map(({ loadedBytes }) => loadedBytes);
    expect(loaded).toEqual([...loaded].sort((a, b) => a - b));
    expect(new Set(seen.map(({ totalBytes }) => totalBytes))).toEqual(new Set([loaded.at(-1)]));
  });

  it("share a card's context and leave nothing behind, whichever call fails", async () => {
    const folder = mkdtempSync(join(tmpdir(), "exllama-draft-"));
    try {
      const run = async (cuda: FakeCuda): Promise<unknown> => {
        const backend = createCudaBackend({ sources: cuda.sources(join(folder, "baselines.json")) });
        const runtime = await loadBoth(backend).catch((error: unknown) => error);
        if (runtime instanceof Error) return runtime;
        try {
          expect(cuda.leaks.filter((leak) => leak.startsWith("context"))).toHaveLength(1);
          expect(cuda.leaks.filter((leak) => leak.startsWith("memory"))).toHaveLength(2);
          for (const each of [runtime as Runtime, (runtime as Runtime).draft!]) await new Driver(each).greedy(prompt, 2);
        } finally {
          await (runtime as Runtime).dispose();
        }
        return null;
      };
      const counting = new FakeCuda();
      expect(await run(counting)).toBeNull();
      expect(counting.leaks).toEqual([]);
      for (let call = 5; call < counting.calls; call += Math.ceil(counting.calls / 12)) {
        const cuda = new FakeCuda();
        cuda.failAt = { call, status: 2 };
        await run(cuda).catch(() => {});
        expect(cuda.leaks, `call ${call}, ${cuda.failed}`).toEqual([]);
      }
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  it("lie on several cards, the draft whole on one of them", async () => {
    const folder = mkdtempSync(join(tmpdir(), "exllama-draft-"));
    const cuda = new FakeCuda([FAKE_CARD, FAKE_CARD]);
    const backend = createCudaBackend({ sources: cuda.sources(join(folder, "baselines.json")) });
    const runtime = await loadBoth(backend, undefined, { caps: [600 * MiB, 600 * MiB], splitMode: "even" });
    const { devices } = runtime.plan;
    expect(devices.map(({ stage }) => stage !== null)).toEqual([true, true]);
    expect(devices.filter(({ draft }) => draft !== null)).toHaveLength(1);
    expect(runtime.draft!.plan.devices.filter(({ stage }) => stage !== null)).toHaveLength(1);
    for (const each of [runtime, runtime.draft!]) await new Driver(each).greedy(prompt, 2);
    await runtime.dispose();
    expect(cuda.leaks).toEqual([]);
    rmSync(folder, { recursive: true });
  });

  it("are refused when the plan and the request disagree about the draft", async () => {
    const backend = createCpuBackend();
    await using model = await opened(models.model);
    await using draft = await opened(models.draft);
    const request = { ...shape, spec: model.spec, packing: backend.packing, devices: backend.devices() };
    const [without, withDraft] = [planModel(request), planModel({ ...request, draft: draft.spec })];
    if (!without.ok || !withDraft.ok) throw new Error("no plan");
    await expect(backend.load({ ...model, plan: without, draft })).rejects.toThrow(/plan holds none/);
    await expect(backend.load({ ...model, plan: withDraft })).rejects.toThrow(/none is given/);
  });
});
