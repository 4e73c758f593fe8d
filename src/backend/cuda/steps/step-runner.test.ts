// Steps queued ahead, on a card that does nothing but answer: what is launched shows what was answered by what.

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { fixture } from "../../../../test/support/fixtures.js";
import { StillCuda } from "../../../../test/support/still-driver.js";
import { openCheckpoint } from "../../../checkpoint/local.js";
import { planModel } from "../../../memory/plan-model.js";
import { MiB } from "../../../memory/size.js";
import { readModel } from "../../../model/read.js";
import { GREEDY, type SamplingParameters } from "../../../sampling/parameters.js";
import type { BatchEntry, Output } from "../../backend.js";
import { Calibrations } from "../cards/calibration.js";
import { createCudaBackend } from "../index.js";
import type { CudaRuntime } from "../runtime.js";

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "exllama-still-"));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

/** @param caps of the entries, MiB */
async function load(cuda: StillCuda, caps: readonly number[] = [1024]): Promise<CudaRuntime> {
  const sources = { ...cuda.sources(), calibrations: new Calibrations(join(folder, "baselines.json")) };
  const backend = createCudaBackend({ sources });
  const checkpoint = await openCheckpoint(fixture("demo-gptq-4bit-g128"));
  const spec = readModel(checkpoint);
  const shape = { spec, packing: backend.packing, devices: backend.devices(), context: 512, cacheType: "f16" as const };
  const run = { maxSequences: 8, cacheTokens: 16 * 256, prefillChunk: 64 };
  const plan = planModel({ ...shape, ...run, caps: caps.map((cap) => cap * MiB), splitMode: "even" });
  if (!plan.ok) throw new Error(plan.message);
  expect(plan.devices.filter(({ stage }) => stage !== null)).toHaveLength(caps.length);
  const runtime = await backend.load({ plan, spec, checkpoint });
  await checkpoint.close();
  cuda.launchedGraphs = 0;
  return runtime;
}

/** Sequences in pages of their own, as a scheduler would move them on. */
class Sequences {
  readonly #runtime: CudaRuntime;
  readonly #ids = new Map<number, number[]>();
  readonly #parameters: SamplingParameters;

  constructor(runtime: CudaRuntime, numbers: readonly number[], parameters: SamplingParameters = GREEDY) {
    this.#runtime = runtime;
    this.#parameters = parameters;
    for (const number of numbers) this.begin(number);
  }

  begin(number: number, length = 3): void {
    this.#ids.set(
      number,
      Array.from({ length }, (_, i) => i + number),
    );
  }

  end(number: number): void {
    this.#ids.delete(number);
  }

  async step(changes: (entry: BatchEntry, number: number) => BatchEntry = (entry) => entry): Promise<Output[][]> {
    const numbers = [...this.#ids.keys()];
    const answers = await this.#runtime.step(numbers.map((number) => changes(this.#entry(number), number)));
    numbers.forEach((number, i) => {
      this.#ids.get(number)!.push(answers[i]![0]!.id!);
    });
    return answers;
  }

  #entry(number: number): BatchEntry {
    const ids = this.#ids.get(number)!;
    const history = Int32Array.from(ids);
    const sample = { parameters: this.#parameters, history, promptLength: 3, seed: number, position: ids.length, mask: null };
    return {
      tokens: Int32Array.of(ids.at(-1)!),
      start: ids.length - 1,
      ropeLength: ids.length,
      pages: [Int32Array.of(2 * number, 2 * number + 1)],
      outputs: [{ index: 0, sample, target: null, topLogprobs: 0, logits: false, hidden: false }],
    };
  }
}

describe("decode steps", () => {
  it.each([
    ["greedy", GREEDY, [1024]],
    ["with a repetition penalty", { ...GREEDY, temperature: 0.9, repetitionPenalty: 1.15 }, [1024]],
    ["over two cards", GREEDY, [600, 600]],
  ] as const)("are queued one ahead, %s", async (_, parameters, caps) => {
    const cuda = new StillCuda({ cards: 2 });
    const runtime = await load(cuda, caps);
    const sequences = new Sequences(runtime, [0, 1, 2, 3, 4, 5], parameters);
    for (let step = 1; step <= 5; step++) {
      await sequences.step();
      expect(cuda.launchedGraphs).toBe((step + 1) * caps.length);
    }
    await runtime.dispose();
  });

  it("answer those that go on when others have ended, and go on ahead", async () => {
    const cuda = new StillCuda();
    const runtime = await load(cuda);
    const sequences = new Sequences(runtime, [0, 1, 2, 3, 4, 5]);
    const before = await sequences.step();
    expect(before.map(([output]) => output!.id)).toEqual([0, 1, 2, 3, 4, 5].map((row) => cuda.idOfRow(row)));
    sequences.end(0);
    const answers = await sequences.step();
    // Rows stay where they were.
    expect(answers.map(([output]) => output!.id)).toEqual([1, 2, 3, 4, 5].map((row) => cuda.idOfRow(row)));
    expect(cuda.launchedGraphs).toBe(3);
    await sequences.step();
    expect(cuda.launchedGraphs).toBe(4);
    // Two rows fit a smaller step: it is put together anew when the queued one has answered.
    for (const number of [1, 2, 3]) sequences.end(number);
    expect((await sequences.step()).map(([output]) => output!.id)).toEqual([4, 5].map((row) => cuda.idOfRow(row)));
    expect(cuda.launchedGraphs).toBe(4);
    expect((await sequences.step()).map(([output]) => output!.id)).toEqual([0, 1].map((row) => cuda.idOfRow(row)));
    expect(cuda.launchedGraphs).toBe(6);
    await runtime.dispose();
  });

  it("answer those that go on when others have come, who get a step of their own", async () => {
    const cuda = new StillCuda();
    const runtime = await load(cuda);
    const sequences = new Sequences(runtime, [0, 1, 2]);
    await sequences.step();
    sequences.begin(5);
    const answers = await sequences.step();
    expect(answers.map(([output]) => output!.id)).toEqual([0, 1, 2, 0].map((row) => cuda.idOfRow(row)));
    expect(cuda.launchedGraphs).toBe(3);
    // Then all of them together again.
    expect((await sequences.step()).map(([output]) => output!.id)).toEqual([0, 1, 2, 3].map((row) => cuda.idOfRow(row)));
    expect(cuda.launchedGraphs).toBe(5);
    await runtime.dispose();
  });

  it("are run anew where something else is asked for than was queued", async () => {
    const cuda = new StillCuda();
    const runtime = await load(cuda);
    const sequences = new Sequences(runtime, [0, 1]);
    await sequences.step();
    const [first] = await sequences.step((entry, number) =>
      number === 0 ? { ...entry, outputs: entry.outputs.map((output) => ({ ...output, target: 4 })) } : entry,
    );
    expect(first![0]!.targetLogprob).not.toBeNull();
    expect(cuda.launchedGraphs).toBe(3);
    await runtime.dispose();
  });

  it("whose logits are no numbers are looked at alone, with nothing queued behind them", async () => {
    const cuda = new StillCuda();
    const runtime = await load(cuda);
    const sequences = new Sequences(runtime, [0, 1]);
    await sequences.step();
    cuda.sound = false; // from the step on that is queued next
    await sequences.step();
    expect(cuda.launchedGraphs).toBe(3);
    await sequences.step(); // once more, and zeros come: they are numbers after all
    expect(cuda.launchedGraphs).toBe(5);
    cuda.sound = true;
    await sequences.step();
    expect(cuda.launchedGraphs).toBe(7);
    await runtime.dispose();
  });
});
