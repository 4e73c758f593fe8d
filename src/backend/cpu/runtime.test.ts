import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { findFixture, fixture } from "../../../test/support/fixtures.js";
import type { Checkpoint } from "../../checkpoint/checkpoint.js";
import { openCheckpoint, openSafetensors } from "../../checkpoint/local.js";
import { ExllamaError } from "../../errors.js";
import { ArenaTooSmallError } from "../../memory/errors.js";
import { readModel } from "../../model/read.js";
import type { ModelSpec } from "../../model/spec.js";
import type { BatchEntry, LoadProgress, LoadRequest, Output, Runtime } from "../backend.js";
import { CpuRuntimeEndedError, NonFiniteTensorError } from "./errors.js";
import { createCpuBackend } from "./index.js";
import { greedy, loadTestModel, planTestModel, type TestModelOptions, TestSequence, want } from "./test-model.js";

/** The smallest bound on an arena with which the tied model can still be planned: its layers then lie apart. */
function smallestArena(exact: boolean, spec: ModelSpec): number {
  const { packing } = createCpuBackend({ exact });
  for (let maxArena = 2 ** 20; ; maxArena += 2 ** 16)
    try {
      planTestModel(spec, { ...packing, maxArena }, { prefillChunk: 16 });
      return maxArena;
    } catch (error) {
      if (!(error instanceof ArenaTooSmallError)) throw error;
    }
}

async function golden(path: string, name: string): Promise<Float32Array | Int32Array> {
  const file = await openSafetensors(path);
  try {
    const tensor = file.tensors.get(name)!;
    const bytes = new Uint8Array(tensor.bytes);
    await file.read(tensor, 0, bytes);
    return tensor.dtype === "F32" ? new Float32Array(bytes.buffer) : new Int32Array(bytes.buffer);
  } finally {
    await file.close();
  }
}

/** Root mean square difference, in standard deviations of what was wanted. */
function difference(got: readonly Float32Array[], wanted: Float32Array): number {
  const mean = wanted.reduce((sum, value) => sum + value, 0) / wanted.length;
  const deviation = Math.sqrt(wanted.reduce((sum, value) => sum + (value - mean) ** 2, 0) / wanted.length);
  const size = wanted.length / got.length;
  let squares = 0;
  got.forEach((row, i) => {
    expect(row.length).toBe(size);
    row.forEach((value, j) => {
      squares += (value - wanted[i * size + j]!) ** 2;
    });
  });
  return Math.sqrt(squares / wanted.length) / deviation;
}

// That it predicts text as well as the reference, and that the exact path has the reference's logits, is shown by
// test/conformance.
describe("the default path", () => {
  // What int8 activations cost when this was written: 0.047, 0.048, 0.014, 0.026 standard deviations.
  it.each(
    [
      ["demo-gptq-4bit-g128", 0.06],
      ["demo-gptq-4bit-g128-act", 0.06],
      ["demo-gptq-8bit-g128", 0.02],
      ["demo-fp16", 0.035],
    ].filter(([name]) => findFixture(String(name))) as [string, number][],
  )("stays near the reference's logits for %s", async (name, most) => {
    const file = fixture(`${name}.golden.safetensors`);
    const runtime = await loadTestModel(fixture(name), { context: 1024, prefillChunk: 256 });
    try {
      for (const prompt of ["prompt0", "prompt1", "prompt2", "prompt3"]) {
        const ids = (await golden(file, `${prompt}.ids`)) as Int32Array;
        const logits = (await golden(file, `${prompt}.logits_last8`)) as Float32Array;
        const rows = logits.length / runtime.spec.vocabSize;
        const answers = await new TestSequence(runtime).feed(ids, (at) => (at >= ids.length - rows ? { logits: true } : null));
        const got = answers.map((answer) => answer.logits!);
        expect(difference(got, logits)).toBeLessThan(most);
      }
    } finally {
      await runtime.dispose();
    }
  });
});

describe.each([true, false])("the same bits (exact: %s)", (exact) => {
  const prompt = Int32Array.from({ length: 290 }, (_, i) => (i * 37 + 11) % 500);
  const logitsOf = async (options: TestModelOptions) => {
    const runtime = await loadTestModel(fixture("tiny/llama-gqa-tied"), { exact, prefillChunk: 300, ...options });
    try {
      const answers = await new TestSequence(runtime).feed(prompt, () => ({ logits: true }));
      return { rows: answers.map((answer) => answer.logits!), arenas: runtime.plan.devices[0]!.stage!.arenas.length };
    } finally {
      await runtime.dispose();
    }
  };
  let shared: Runtime;
  let whole: Float32Array[];
  beforeAll(async () => {
    shared = await loadTestModel(fixture("tiny/llama-gqa-tied"), { exact, prefillChunk: 300 });
    whole = await inChunks(300);
  });
  afterAll(() => shared.dispose());

  async function inChunks(chunk: number): Promise<Float32Array[]> {
    const answers = await new TestSequence(shared).feed(prompt, () => ({ logits: true }), chunk);
    return answers.map((answer) => answer.logits!);
  }

  it.each([1, 2, 3, 5])("on %i threads", async (threads) => {
    expect((await logitsOf({ threads })).rows).toEqual(whole);
  });

  it.each([1, 7, 64, 255])("in chunks of %i tokens", async (chunk) => {
    expect(await inChunks(chunk)).toEqual(whole);
  });

  it("over several arenas", async () => {
    const checkpoint = await openCheckpoint(fixture("tiny/llama-gqa-tied"));
    const maxArena = smallestArena(exact, readModel(checkpoint));
    await checkpoint.close();
    const { rows, arenas } = await logitsOf({ prefillChunk: 16, packing: (packing) => ({ ...packing, maxArena }) });
    expect(arenas).toBeGreaterThan(2);
    expect(rows).toEqual(whole);
  });

  it("alone or in any batch", async () => {
    const runtime = await loadTestModel(fixture("tiny/llama-gqa-tied"), {
      exact,
      maxSequences: 3,
      cacheTokens: 1536,
      prefillChunk: 300,
    });
    try {
      const [a, b, c] = [0, 2, 4].map((page) => new TestSequence(runtime, page));
      const everything = (tokens: Int32Array) => Array.from(tokens, (_, index) => want(index, { logits: true }));
      const others = prompt.map((id) => (id * 3) % 512);
      const got: Float32Array[] = [];
      // Whole chunks beside others' chunks, then single tokens beside single tokens and chunks.
      let at = 0;
      for (const [mine, left, right] of [
        [100, 120, 30],
        [3, 1, 70],
        [1, 1, 1],
        [180, 0, 5],
        [1, 1, 1],
        [1, 1, 50],
      ] as const) {
        const tokens = prompt.subarray(at, at + mine);
        const batch = [a!.entry(tokens, everything(tokens))];
        if (left) batch.unshift(b!.entry(others.subarray(b!.length, b!.length + left), []));
        if (right) batch.push(c!.entry(others.subarray(c!.length, c!.length + right), [want(0, { sample: greedy(1) })]));
        const answers = await runtime.step(batch);
        got.push(...answers[left ? 1 : 0]!.map((answer) => answer.logits!));
        at += mine;
      }
      expect(got).toEqual(whole.slice(0, at));
    } finally {
      await runtime.dispose();
    }
  });

  it("with threads that come late, whatever is wanted from one step to the next", async () => {
    const runtime = await loadTestModel(fixture("tiny/llama-gqa-tied"), {
      exact,
      threads: 12,
      cacheTokens: 512,
      prefillChunk: 64,
    });
    try {
      const sequence = new TestSequence(runtime, 0);
      const got: Float32Array[] = [];
      for (let at = 0; at < 120; at++) {
        // Steps of which nothing, logits alone, or sums too are wanted: each ends at another barrier.
        const sums = at % 3 === 1 ? { sample: greedy(1) } : {};
        const wants = at % 3 === 2 ? [] : [want(0, { logits: true, ...sums })];
        const [answers] = await runtime.step([sequence.entry(prompt.subarray(at, at + 1), wants)]);
        if (wants.length > 0) got.push(answers![0]!.logits!);
      }
      expect(got).toEqual(whole.slice(0, 120).filter((_, at) => at % 3 !== 2));
    } finally {
      await runtime.dispose();
    }
  });

  it("whether a sliding window's old pages are kept or dropped, and as if only the window were there", async () => {
    const windowed = (spec: ModelSpec, window: number | null): ModelSpec => ({
      ...spec,
      layers: spec.layers.map((layer) => ({ ...layer, attention: { ...layer.attention, window } })),
    });
    const ids = Int32Array.from({ length: 700 }, (_, i) => (i * 29 + 5) % 500);
    const run = async (window: number | null, drop: boolean) => {
      const runtime = await loadTestModel(fixture("tiny/llama-gqa-tied"), {
        exact,
        context: 1024,
        prefillChunk: 128,
        spec: (spec) => windowed(spec, window),
      });
      try {
        const answers: Float32Array[] = [];
        for (let start = 0; start < ids.length; start += 100) {
          const tokens = ids.subarray(start, start + 100);
          const pages = Int32Array.from({ length: Math.ceil((start + 100) / 256) }, (_, page) =>
            drop && (page + 1) * 256 <= start - 200 + 1 ? -1 : page % runtime.plan.cacheGroups[0]!.pages,
          );
          const outputs = [want(99, { logits: true })];
          const [answer] = await runtime.step([{ tokens, start, ropeLength: start + 100, pages: [pages], outputs }]);
          answers.push(answer![0]!.logits!);
        }
        return answers;
      } finally {
        await runtime.dispose();
      }
    };
    const dropped = await run(200, true);
    const unlimited = await run(null, false);
    expect(dropped[0]).toEqual(unlimited[0]);
    expect(dropped[6]).not.toEqual(unlimited[6]);
    expect(await run(200, false)).toEqual(dropped);
  });
});

describe("outputs", () => {
  it("agree with each other, however they are asked for", async () => {
    const runtime = await loadTestModel(fixture("demo-gptq-4bit-g128"), { prefillChunk: 64 });
    try {
      const ids = Int32Array.from({ length: 40 }, (_, i) => i * 3 + 20);
      const everything = (index: number) =>
        want(index, { logits: true, hidden: true, target: 77, topLogprobs: 5, sample: greedy(index + 1) });
      const [full] = await runtime.step([
        new TestSequence(runtime).entry(
          ids,
          Array.from(ids, (_, index) => everything(index)),
        ),
      ]);
      const targets = await new TestSequence(runtime).feed(ids, () => ({ target: 77 }));
      full!.forEach((output, index) => {
        const logits = output.logits!;
        const largest = Math.max(...logits);
        const sum = Math.log(logits.reduce((total, logit) => total + Math.exp(logit - largest), 0)) + largest;
        expect(output.id).toBe(logits.indexOf(largest));
        expect(output.logprob).toBeCloseTo(largest - sum, 5);
        expect(output.targetLogprob).toBeCloseTo(logits[77]! - sum, 5);
        expect(targets[index]!.targetLogprob).toBe(output.targetLogprob);
        expect(output.top.map(({ id }) => id)[0]).toBe(output.id);
        expect(output.top.length).toBe(5);
        expect(output.hidden!.length).toBe(runtime.spec.hiddenSize);
        expect(output.hidden!.buffer).toBeInstanceOf(ArrayBuffer);
      });
    } finally {
      await runtime.dispose();
    }
  });

  it("may ask twice for the same position", async () => {
    const runtime = await loadTestModel(fixture("tiny/llama-mha"));
    try {
      const outputs = [want(1, { target: 3 }), want(1, { target: 4 }), want(1, { sample: greedy(2) })];
      const [[a, b, c]] = (await runtime.step([new TestSequence(runtime).entry([1, 2], outputs)])) as [Output[]];
      expect(a!.targetLogprob).not.toBe(b!.targetLogprob);
      expect(c!.id).not.toBeNull();
    } finally {
      await runtime.dispose();
    }
  });
});

describe("a runtime that is asked for what cannot be", () => {
  it("refuses the step, says why, and goes on", async () => {
    const runtime = await loadTestModel(fixture("tiny/llama-mha"), { maxSequences: 2, cacheTokens: 512, prefillChunk: 8 });
    try {
      const entry = { tokens: Int32Array.of(1, 2), start: 0, ropeLength: 2, pages: [Int32Array.of(0)], outputs: [] };
      const refusals: [BatchEntry[], RegExp][] = [
        [[], /empty/],
        [[entry, entry, entry], /3 entries/],
        [[{ ...entry, tokens: new Int32Array(9) }], /9 tokens/],
        [[{ ...entry, tokens: Int32Array.of(512) }], /vocabulary/],
        [[{ ...entry, tokens: Int32Array.of(-1) }], /vocabulary/],
        [[{ ...entry, tokens: new Int32Array() }], /no token/],
        [[{ ...entry, start: 511 }], /context/],
        [[{ ...entry, start: -1 }], /position/],
        [[{ ...entry, pages: [Int32Array.of(2)] }], /page 0 of table 0 is 2/],
        [[{ ...entry, pages: [Int32Array.of(-1)] }], /page 0 of table 0 is -1/],
        [[{ ...entry, pages: [] }], /page table/],
        [[entry, entry], /written twice/],
        [[{ ...entry, outputs: [want(2, {})] }], /none of its/],
        [[{ ...entry, outputs: [want(0, { target: 512 })] }], /target/],
      ];
      for (const [batch, message] of refusals) await expect(runtime.step(batch)).rejects.toThrow(message);
      expect((await runtime.step([entry])).length).toBe(1);
    } finally {
      await runtime.dispose();
    }
    await expect(runtime.step([])).rejects.toThrow(CpuRuntimeEndedError);
    await runtime.dispose();
  });

  it("waits for the running step before it ends", async () => {
    const runtime = await loadTestModel(fixture("tiny/llama-mha"));
    const running = new TestSequence(runtime).feed([1, 2, 3], () => ({ logits: true }));
    await runtime.dispose();
    expect((await running).length).toBe(3);
  });
});

describe("loading", () => {
  const load = async (checkpoint: Checkpoint, exact: boolean, request: Partial<LoadRequest> = {}) => {
    const backend = createCpuBackend({ exact, threads: 2, hugePages: false });
    const { plan, spec } = planTestModel(readModel(checkpoint), backend.packing, {});
    return backend.load({ plan, spec, checkpoint, ...request });
  };
  /** A checkpoint in which some bytes read differently. */
  const damaged = (checkpoint: Checkpoint, tensor: string, at: number, bytes: number[]): Checkpoint => ({
    ...checkpoint,
    source: checkpoint.source,
    configs: checkpoint.configs,
    tensors: checkpoint.tensors,
    close: () => checkpoint.close(),
    read: async (info, offset, into) => {
      await checkpoint.read(info, offset, into);
      if (info.name === tensor && at >= offset && at < offset + into.byteLength) into.set(bytes, at - offset);
    },
  });
  const layer = "model.layers.3";

  it.each([
    ["scales", `${layer}.mlp.up_proj.scales`, 100, [0x00, 0x7e], NonFiniteTensorError],
    ["a norm", `${layer}.input_layernorm.weight`, 20, [0x00, 0x7c], NonFiniteTensorError],
    ["plain weights", "lm_head.weight", 4000, [0x00, 0xfc], NonFiniteTensorError],
    ["embeddings", "model.embed_tokens.weight", 4000, [0xff, 0xff], NonFiniteTensorError],
    ["a g_idx", `${layer}.mlp.up_proj.g_idx`, 40, [200, 0, 0, 0], ExllamaError],
  ])("names the tensor when %s hold what no model can", async (_, tensor, at, bytes, kind) => {
    for (const exact of [true, false]) {
      const checkpoint = await openCheckpoint(fixture("demo-gptq-4bit-g128-act"));
      try {
        const failed = await load(damaged(checkpoint, tensor, at, bytes), exact).then(null, (error: unknown) => error);
        expect(failed).toBeInstanceOf(kind);
        expect((failed as Error).message).toContain(tensor);
      } finally {
        await checkpoint.close();
      }
    }
  });

  it.each([true, false])("ends promptly when it is aborted (exact: %s)", async (exact) => {
    const checkpoint = await openCheckpoint(fixture("demo-gptq-4bit-g128"));
    try {
      const controller = new AbortController();
      const reason = new Error("enough");
      let calls = 0;
      const loading = load(checkpoint, exact, {
        signal: controller.signal,
        onProgress: () => {
          if (++calls === 20) controller.abort(reason);
        },
      });
      await expect(loading).rejects.toBe(reason);
      expect(calls).toBe(20);
    } finally {
      await checkpoint.close();
    }
  });

  it("counts every byte of the weights once", async () => {
    const checkpoint = await openCheckpoint(fixture("demo-gptq-4bit-g128-act"));
    try {
      const progress: LoadProgress[] = [];
      const runtime = await load(checkpoint, false, { onProgress: (one) => progress.push(one) });
      await runtime.dispose();
      const bytes = [...checkpoint.tensors.values()].reduce((sum, tensor) => sum + tensor.bytes, 0);
      expect(progress.at(-1)).toEqual({ loadedBytes: bytes, totalBytes: bytes });
      progress.reduce((before, { loadedBytes }) => {
        expect(loadedBytes).toBeGreaterThan(before);
        return loadedBytes;
      }, 0);
    } finally {
      await checkpoint.close();
    }
  });

  it("refuses plans that are not its own", async () => {
    const checkpoint = await openCheckpoint(fixture("tiny/llama-mha"));
    try {
      const exact = createCpuBackend({ exact: true });
      const { plan, spec } = planTestModel(readModel(checkpoint), createCpuBackend().packing, {});
      await expect(exact.load({ plan, spec, checkpoint })).rejects.toThrow(/plan is for cpu/);
      const planOnly = { ...spec, planOnly: "mixture of experts" };
      await expect(createCpuBackend().load({ plan, spec: planOnly, checkpoint })).rejects.toThrow(/mixture of experts/);
      const f32 = { ...plan, run: { ...plan.run, cacheType: "f32" as const } };
      await expect(createCpuBackend().load({ plan: f32, spec, checkpoint })).rejects.toThrow(/f32 cache/);
      const { plan: exactPlan } = planTestModel(readModel(checkpoint), exact.packing, {});
      const q8 = { ...exactPlan, run: { ...exactPlan.run, cacheType: "q8" as const } };
      await expect(exact.load({ plan: q8, spec, checkpoint })).rejects.toThrow(/q8 cache/);
      expect(() => createCpuBackend({ threads: 0 })).toThrow(/whole number from 1 to 64/);
    } finally {
      await checkpoint.close();
    }
  });
});
