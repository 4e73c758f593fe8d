// The host's side without a card: everything taken is given back, and every failure of every
// driver call ends in a typed error after which the same process can load again.

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { Driver } from "../../../../test/conformance/driver.js";
import { FAKE_CARD, FakeCuda } from "../../../../test/support/fake-cuda.js";
import { fixture } from "../../../../test/support/fixtures.js";
import { gptqWeights, makeSynthetic, smallLlama } from "../../../../test/support/synthetic-checkpoint.js";
import { openCheckpoint } from "../../../checkpoint/local.js";
import { ExllamaError } from "../../../errors.js";
import { TABLE_BASELINE } from "../../../memory/devices.js";
import type { CacheType } from "../../../memory/packing.js";
import { planModel } from "../../../memory/plan-model.js";
import { MiB } from "../../../memory/size.js";
import { readModel } from "../../../model/read.js";
import type { Backend } from "../../backend.js";
import { createCudaBackend } from "../index.js";
import { decodeBuckets } from "../steps/step-shape.js";

const options = { cacheType: "f16", context: 512, prefillChunk: 64, maxSequences: 3 } as const;

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "exllama-fake-"));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const backendOn = (cuda: FakeCuda) => createCudaBackend({ sources: cuda.sources(join(folder, "baselines.json")) });

async function loadAndRun(cuda: FakeCuda, model: string, cacheType: CacheType = "f16"): Promise<void> {
  const driver = await Driver.load(backendOn(cuda), model, { ...options, cacheType });
  try {
    const ids = Array.from({ length: 70 }, (_, i) => i + 3);
    await driver.greedy(ids, 3);
    await driver.runtime.copyPages([{ group: 0, from: 0, to: 1 }]);
    const [a, b] = [driver.newSequence(), driver.newSequence()];
    await driver.step([
      { sequence: a, ids: ids.slice(0, 20), outputs: [{ index: 19, logits: true, hidden: true }] },
      { sequence: b, ids: [5], outputs: [{ index: 0, topLogprobs: 2, target: 7 }] },
    ]);
  } finally {
    await driver.runtime.dispose();
  }
}

describe("the CUDA backend's host side", () => {
  it("gives everything back that it took, and can load again", async () => {
    const cuda = new FakeCuda();
    for (let round = 0; round < 2; round++) {
      await loadAndRun(cuda, fixture("tiny/llama-gqa-tied"));
      expect(cuda.leaks).toEqual([]);
    }
  });

  it("runs quantised models with every kind of order and group", async () => {
    const weights = [
      { ...gptqWeights, order: "act-order" as const, groupSize: 32 },
      { ...gptqWeights, groupSize: 16 },
      { ...gptqWeights, order: "irregular" as const },
      { ...gptqWeights, bits: 8 as const, groupSize: 64, scaleDtype: "bf16" as const },
    ];
    for (const each of weights) {
      const cuda = new FakeCuda();
      using model = makeSynthetic({ ...smallLlama, weights: each });
      await loadAndRun(cuda, model.folder);
      expect(cuda.leaks).toEqual([]);
    }
  });

  it.each([
    ["absent", 300, ["linear_prompt_q4_g32"]],
    // Orders that differ from linear to linear: each has a launch of its own, behind its gathering.
    ["act-order", 300, ["gather_columns", "linear_prompt_q4_g32", "silu_mul"]],
    // Some dozens of tokens in pieces; inputs that are no multiple of 256 by the kernels of any card.
    ["absent", 100, ["batch_silu", "linear_batch_q4_g32_m128", "linear_batch_wgmma_q4_g32"]],
  ] as const)("takes quantised weights of order %s and a prompt of %i tokens through %j", async (order, tokens, wanted) => {
    const cuda = new FakeCuda();
    using model = makeSynthetic({ ...smallLlama, weights: { ...gptqWeights, order } });
    const driver = await Driver.load(backendOn(cuda), model.folder, { ...options, prefillChunk: 512 });
    cuda.launched.length = 0;
    const ids = Array.from({ length: tokens }, (_, i) => i % 300);
    await driver.step([{ sequence: driver.newSequence(), ids, outputs: [{ index: tokens - 1, logits: true }] }]);
    const linears = cuda.launched.filter((name) => /linear|expand|silu|gather/.test(name) && !/gemv|head/.test(name));
    expect([...new Set(linears.map((name) => name.replace(/_[tn]\d+$/, "")))].sort()).toEqual(wanted);
    // q, k and v are one launch where they read the same x, so are gate and up.
    if (order === "absent" && tokens >= 300) expect(linears).toHaveLength(4 * smallLlama.layers);
    await driver.runtime.dispose();
    expect(cuda.leaks).toEqual([]);
  });

  it("multiplies x in the order of codes where norm and silu write it for nobody else", async () => {
    const cuda = new FakeCuda();
    using model = makeSynthetic({ ...smallLlama, hidden: 256, headDim: 64, weights: { ...gptqWeights, order: "absent" } });
    const driver = await Driver.load(backendOn(cuda), model.folder, { ...options, prefillChunk: 512 });
    const named = async (tokens: number) => {
      cuda.launched.length = 0;
      const ids = Array.from({ length: tokens }, (_, i) => i % 300);
      await driver.step([{ sequence: driver.newSequence(), ids, outputs: [{ index: tokens - 1, logits: true }] }]);
      return cuda.launched.filter((name) => /linear_batch/.test(name)).slice(0, 4);
    };
    const of = (tokens: number, ordered: boolean) => `linear_batch_wgmma_q4_g32_t${tokens}${ordered ? "_ordered" : ""}`;
    // q, k, v; o behind a prompt's attention, which leaves x as it is; gate and up; down
    expect(await named(100)).toEqual([of(128, true), of(128, false), of(128, true), of(128, true)]);
    expect(await named(7)).toEqual(Array(4).fill(of(8, false)));
    await driver.runtime.dispose();
  });

  it("has blocks of clusters share out what is long and has few outputs", async () => {
    const cuda = new FakeCuda();
    const shape = { ...smallLlama, hidden: 256, headDim: 64, intermediate: 2048 };
    using model = makeSynthetic({ ...shape, weights: { ...gptqWeights, order: "absent", groupSize: 128 } });
    const driver = await Driver.load(backendOn(cuda), model.folder, { ...options, prefillChunk: 512 });
    const ids = Array.from({ length: 60 }, (_, i) => i);
    await driver.step([{ sequence: driver.newSequence(), ids, outputs: [{ index: 59, logits: true }] }]);
    expect(cuda.clusters.get("linear_batch_cluster_q4_g128_t64_ordered")).toBe(8);
    await driver.runtime.dispose();
    expect(cuda.leaks).toEqual([]);
  });

  it("has all blocks of what one token or few take between two attentions run at once, and of nothing else", async () => {
    const cuda = new FakeCuda();
    using model = makeSynthetic({ ...smallLlama, weights: { ...gptqWeights, groupSize: 128 } });
    await loadAndRun(cuda, model.folder);
    expect([...cuda.together].sort()).toEqual(["linear_chain_q4_g128", "linear_chain_rows_q4_g128"]);
    expect(cuda.leaks).toEqual([]);
  });

  it.each(["q8", "q4"] as const)("runs with a %s cache, by the kernels that write and read it", async (cacheType) => {
    const cuda = new FakeCuda();
    await loadAndRun(cuda, fixture("tiny/llama-gqa-tied"), cacheType);
    const attention = new Set(cuda.launched.filter((name) => /attention|rope_kv/.test(name)));
    expect([...attention].sort()).toEqual([
      `attention_decode_${cacheType}_d64`,
      `attention_prefill_${cacheType}_d64`,
      `rope_kv_${cacheType}`,
    ]);
    expect(cuda.leaks).toEqual([]);
  });

  it("creates contexts only on cards that hold something", async () => {
    const cuda = new FakeCuda([FAKE_CARD, FAKE_CARD]);
    const driver = await Driver.load(backendOn(cuda), fixture("tiny/llama-mha"), options);
    expect(cuda.leaks.filter((leak) => leak.startsWith("context"))).toHaveLength(1);
    await driver.runtime.dispose();
    await driver.runtime.dispose();
    expect(cuda.leaks).toEqual([]);
  });

  it("copies keys and values of every layer of a group, each within its own region", async () => {
    const cuda = new FakeCuda();
    const driver = await Driver.load(backendOn(cuda), fixture("tiny/llama-gqa-tied"), options);
    const { plan } = driver.runtime;
    const { layers, pages } = plan.cacheGroups[0]!;
    cuda.made.length = 0;
    cuda.copied.length = 0;
    await driver.runtime.copyPages([{ group: 0, from: pages - 1, to: 0 }]);
    const regions = plan.devices[0]!.stage!.regions.filter(({ area }) => area === "kvCache");
    expect(regions).toHaveLength(2 * layers.length);
    const places = cuda.copied.map(({ to, from, bytes }) => ({
      to: Number(to - cuda.copied[0]!.to),
      apart: Number(from - to),
      bytes,
    }));
    expect(places).toEqual(
      regions.map(({ offset, bytes }) => ({
        to: offset - regions[0]!.offset,
        apart: bytes - bytes / pages,
        bytes: bytes / pages,
      })),
    );
    expect(cuda.made.filter((name) => /Synchronize|EventQuery/.test(name))).toEqual([]);
    await driver.runtime.dispose();
    await expect(driver.runtime.copyPages([])).rejects.toMatchObject({ code: "CUDA_RUNTIME_ENDED" });
  });

  it.each([
    ["directly", true],
    ["through the host", false],
  ])("crosses from card to card %s", async (_, peers) => {
    const cuda = new FakeCuda([FAKE_CARD, FAKE_CARD]);
    const backend = createCudaBackend({ sources: cuda.sources(join(folder, "baselines.json")), peers });
    const checkpoint = await openCheckpoint(fixture("demo-gptq-4bit-g128"));
    const spec = readModel(checkpoint);
    const shape = { spec, packing: backend.packing, devices: backend.devices(), context: 256, cacheType: "f16" as const };
    const plan = planModel({ ...shape, caps: [600 * MiB, 600 * MiB], splitMode: "even", prefillChunk: 64 });
    if (!plan.ok) throw new Error(plan.message);
    expect(plan.devices.filter(({ stage }) => stage !== null)).toHaveLength(2);
    const runtime = await backend.load({ plan, spec, checkpoint });
    cuda.made.length = 0;
    const request = { index: 0, sample: null, target: 3, topLogprobs: 0, logits: false, hidden: false };
    await runtime.step([{ tokens: Int32Array.of(5), start: 0, ropeLength: 1, pages: [Int32Array.of(0)], outputs: [request] }]);
    expect(cuda.made.filter((name) => name === "cuMemcpyPeerAsync")).toHaveLength(peers ? 1 : 0);
    expect(cuda.made).toContain("cuStreamWaitEvent");
    await runtime.dispose();
    await checkpoint.close();
    expect(cuda.leaks).toEqual([]);
  });

  it("takes factors of norms that are put off across with the residual stream", async () => {
    const cuda = new FakeCuda([FAKE_CARD, FAKE_CARD]);
    const backend = backendOn(cuda);
    const checkpoint = await openCheckpoint(fixture("demo-gptq-4bit-g128"));
    const spec = readModel(checkpoint);
    const shape = { spec, packing: backend.packing, devices: backend.devices(), context: 256, cacheType: "f16" as const };
    const plan = planModel({ ...shape, caps: [600 * MiB, 600 * MiB], splitMode: "even", prefillChunk: 64 });
    if (!plan.ok) throw new Error(plan.message);
    const runtime = await backend.load({ plan, spec, checkpoint });
    for (const [tokens, factors, norms] of [
      [1, 0, 0],
      // The first stage begins with a token's own factor; all others are handed on.
      [2, 2, 1],
      [8, 8, 1],
      // Each stage begins with x as linears leave it.
      [9, 9, 2],
      [16, 16, 2],
      [17, 0, 0],
    ] as const) {
      cuda.copied.length = 0;
      cuda.launched.length = 0;
      await runtime.step([
        { tokens: new Int32Array(tokens), start: 0, ropeLength: tokens, pages: [Int32Array.of(0)], outputs: [] },
      ]);
      expect(cuda.copied.map(({ bytes }) => bytes)).toEqual([(tokens * spec.hiddenSize + factors) * 4]);
      expect(cuda.launched.filter((name) => name === "rms_norm_deferred")).toHaveLength(norms);
    }
    await runtime.dispose();
    await checkpoint.close();
  });

  it("refuses to go on where the driver takes more than the plan says, and plans with that from then on", async () => {
    const cuda = new FakeCuda([{ ...FAKE_CARD, context: 700 * MiB }]);
    const load = () => Driver.load(backendOn(cuda), fixture("tiny/llama-mha"), options);
    await expect(load()).rejects.toMatchObject({ code: "CUDA_BASELINE_EXCEEDED" });
    expect(cuda.leaks).toEqual([]);
    const driver = await load();
    expect(driver.runtime.plan.devices[0]).toMatchObject({ baseline: 704 * MiB, baselineSource: "calibrated" });
    await driver.runtime.dispose();
  });

  it("has planned for what the driver keeps of captured steps, whatever their number and kinds", async () => {
    const plain = { ...smallLlama, layers: 24, hidden: 64, heads: 2, kvHeads: 1, intermediate: 128 };
    const quantised = { ...plain, weights: { ...gptqWeights, groupSize: 64 } };
    const actOrder = { ...plain, weights: { ...gptqWeights, order: "act-order" as const, groupSize: 32 } };
    for (const shape of [plain, quantised, actOrder]) {
      // All but nothing of the table's baseline is left when the context is there.
      const cuda = new FakeCuda([{ ...FAKE_CARD, context: TABLE_BASELINE, launch: 4096 }]);
      using model = makeSynthetic(shape);
      for (const maxSequences of [1, 32, 200]) {
        const many = { ...options, maxSequences, cacheTokens: maxSequences * 256 };
        cuda.made.length = 0;
        const driver = await Driver.load(backendOn(cuda), model.folder, many);
        const graphs = cuda.made.filter((name) => name === "cuGraphInstantiateWithFlags").length;
        expect(graphs).toBe(decodeBuckets(driver.runtime.plan.run).length);
        await driver.runtime.dispose();
      }
    }
  });

  it("plans with more from then on where captured steps take more than was thought", async () => {
    const cuda = new FakeCuda([{ ...FAKE_CARD, launch: MiB }]);
    const load = () => Driver.load(backendOn(cuda), fixture("tiny/llama-mha"), options);
    await expect(load()).rejects.toMatchObject({ code: "CUDA_BASELINE_EXCEEDED" });
    const driver = await load();
    expect(driver.runtime.plan.devices[0]).toMatchObject({ baselineSource: "calibrated" });
    await driver.runtime.dispose();
    expect(cuda.leaks).toEqual([]);
  });

  it("captures no step for which the plan has no room, and runs it all the same", async () => {
    const cuda = new FakeCuda();
    const backend = backendOn(cuda);
    const cramped: Backend = {
      ...backend,
      devices: () => backend.devices(),
      load: (request) => {
        const devices = request.plan.devices.map(
          (device) => device.stage && { ...device, stage: { ...device.stage, captured: 0 } },
        );
        return backend.load({ ...request, plan: { ...request.plan, devices: devices.map((device) => device!) } });
      },
    };
    const driver = await Driver.load(cramped, fixture("tiny/llama-gqa-tied"), options);
    expect(cuda.made).not.toContain("cuGraphInstantiateWithFlags");
    cuda.launched.length = 0;
    await driver.greedy([1, 2, 3], 2);
    expect(cuda.launched.filter((name) => name === "choose_token")).toHaveLength(2);
    await driver.runtime.dispose();
  });

  it("stops loading when told to, with everything given back", async () => {
    const cuda = new FakeCuda();
    const backend = backendOn(cuda);
    const checkpoint = await openCheckpoint(fixture("tiny/llama-mha"));
    const spec = readModel(checkpoint);
    const plan = planModel({
      spec,
      packing: backend.packing,
      devices: backend.devices(),
      caps: "auto",
      context: 256,
      cacheType: "f16",
    });
    if (!plan.ok) throw new Error(plan.message);
    const controller = new AbortController();
    const reason = new Error("enough");
    const onProgress = ({ loadedBytes, totalBytes }: { loadedBytes: number; totalBytes: number }) => {
      if (loadedBytes > totalBytes / 2) controller.abort(reason);
    };
    await expect(backend.load({ plan, spec, checkpoint, signal: controller.signal, onProgress })).rejects.toBe(reason);
    await checkpoint.close();
    expect(cuda.leaks).toEqual([]);
  });

  it("says that nothing can follow an error after which the driver is of no use", async () => {
    const cuda = new FakeCuda();
    const driver = await Driver.load(backendOn(cuda), fixture("tiny/llama-mha"), options);
    cuda.failAt = { call: cuda.calls + 2, status: 719 };
    await expect(driver.greedy([1, 2, 3], 2)).rejects.toMatchObject({ code: "CUDA_POISONED" });
    cuda.failAt = null;
    await expect(driver.greedy([1, 2, 3], 2)).rejects.toMatchObject({ code: "CUDA_POISONED" });
    await driver.runtime.dispose();
    expect(cuda.leaks).toEqual([]);
  });

  it("survives the failure of any driver call", async () => {
    // One layer of quantised weights and tied embeddings: every kind of call that there is, and few of each.
    using synthetic = makeSynthetic({ ...smallLlama, layers: 1, tied: true, weights: { ...gptqWeights, groupSize: 128 } });
    const model = synthetic.folder;
    const counting = new FakeCuda();
    await loadAndRun(counting, model);
    const total = counting.calls;
    // Every call near the beginning, then a sample: the same few calls repeat for every tensor and layer.
    const chosen = Array.from({ length: total }, (_, i) => i).filter((i) => i < 60 || i % 37 === 0 || i > total - 20);
    // One driver lives through all of it: each load begins where the failure of the one before left it.
    const cuda = new FakeCuda();
    for (const call of chosen) {
      cuda.failAt = { call: cuda.calls + call, status: call % 3 === 0 ? 2 : 700 };
      cuda.failed = null;
      const failure = await loadAndRun(cuda, model).catch((error: unknown) => error);
      // Waiting and choosing a context before giving back may fail: giving back goes on.
      if (failure === undefined) expect(cuda.failed).toMatch(/cuStreamSynchronize|cuCtxSetCurrent/);
      else expect(failure, `call ${call}, ${cuda.failed}`).toBeInstanceOf(ExllamaError);
      expect(cuda.leaks, `call ${call}`).toEqual([]);
      cuda.failAt = null;
      if (call % 8 > 0 && call !== chosen.at(-1)) continue;
      await loadAndRun(cuda, model);
      expect(cuda.leaks, `after call ${call}`).toEqual([]);
    }
  });
});
