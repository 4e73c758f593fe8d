import { describe, expect, it } from "vitest";
import { GREEDY, type SampleRequest, type SamplingParameters } from "../../../sampling/parameters.js";
import { uniformAt } from "../../../sampling/philox.js";
import type { OutputRequest } from "../../backend.js";
import { SAMPLE_SLOT } from "./output-layouts.js";
import { SampleSlots } from "./sample-slots.js";

const VOCAB = 100;
const POOL_AT = 256;
const POOL = 512;

function output(parameters: Partial<SamplingParameters>, changes: Partial<OutputRequest & SampleRequest> = {}): OutputRequest {
  const sample: SampleRequest = {
    parameters: { ...GREEDY, ...parameters },
    history: changes.history ?? Int32Array.of(3, 4, 3),
    promptLength: 1,
    seed: 7,
    position: 3,
    mask: changes.mask ?? null,
  };
  return {
    index: 0,
    sample,
    target: null,
    topLogprobs: changes.topLogprobs ?? 0,
    logits: changes.logits ?? false,
    hidden: false,
  };
}

function write(requests: OutputRequest[], rows = requests.length) {
  const buffer = new ArrayBuffer(POOL_AT + POOL);
  const written = new SampleSlots(VOCAB, buffer, POOL_AT).write(requests, rows);
  const slot = (row: number) => {
    const view = new DataView(buffer, row * SAMPLE_SLOT.bytes);
    const names = ["mode", "topK", "adjustmentsAt", "adjustments", "maskAt", "maskWords"] as const;
    const ints = Object.fromEntries(names.map((name, i) => [name, view.getInt32(32 + 4 * i, true)]));
    const [uniform, minDistance, topP] = [0, 8, 16].map((at) => view.getFloat64(at, true));
    return { uniform, minDistance, topP, rate: view.getFloat32(24, true), ...ints };
  };
  return { ...written, slot, pool: new DataView(buffer, POOL_AT) };
}

describe("sample slots", () => {
  it("leave plain greedy choices to the facts, and unused rows idle", () => {
    const { chosen, slot, bytes } = write([output({})], 3);
    expect(chosen).toEqual([true]);
    for (const row of [0, 1, 2]) expect(slot(row)).toMatchObject({ mode: 0, adjustments: 0, maskWords: -1 });
    expect(bytes).toBe(POOL_AT);
  });

  it("hold what the draw needs", () => {
    const { chosen, slot } = write([output({ temperature: 0.5, topK: 40, topP: 0.9, minP: 0.1 })]);
    expect(chosen).toEqual([true]);
    expect(slot(0)).toMatchObject({ mode: 2, topK: 40, topP: 0.9, uniform: uniformAt(7, 3), maskWords: -1 });
    expect(slot(0).minDistance).toBeCloseTo(0.5 * Math.log(0.1), 12);
    expect(slot(0).rate).toBeCloseTo(2 * Math.LOG2E, 6);
    expect(write([output({ temperature: 1, topK: VOCAB })]).slot(0)).toMatchObject({ topK: 0, minDistance: -Infinity });
  });

  it("put changes and masks into the pool, each row's behind the one before", () => {
    const mask = Uint32Array.of(5, 6, 7, 8, 9);
    const { slot, pool, bytes } = write([
      output({ frequencyPenalty: 0.5, presencePenalty: 1, bannedIds: [9] }),
      output({ temperature: 1, repetitionPenalty: 2 }, { mask }),
    ]);
    expect(slot(0)).toMatchObject({ mode: 1, adjustmentsAt: 0, adjustments: 3, maskWords: -1 });
    expect(slot(1)).toMatchObject({ mode: 2, adjustmentsAt: 72, adjustments: 2, maskAt: 120, maskWords: 4 });
    const change = (at: number) => [pool.getFloat64(at, true), pool.getFloat64(at + 8, true), pool.getInt32(at + 16, true)];
    expect([0, 24, 48].map(change)).toEqual([
      [1, -1.5, 4],
      [1, -1.5, 3],
      [1, -Infinity, 9],
    ]);
    expect([72, 96].map(change)).toEqual([
      [2, 0, 3],
      [2, 0, 4],
    ]);
    expect([120, 124, 128, 132].map((at) => pool.getUint32(at, true))).toEqual([5, 6, 7, 8]);
    expect(bytes).toBe(POOL_AT + 136);
  });

  it.each<[string, OutputRequest]>([
    ["locally typical sampling", output({ temperature: 1, typical: 0.5 })],
    ["temperatures beyond fp32's comfort", output({ temperature: 1e-6 })],
    ["penalties beyond it", output({ repetitionPenalty: 1e6 })],
    ["biases beyond it", output({ logitBias: [[1, 1e9]] })],
    [
      "more changes than there is room for",
      output({ repetitionPenalty: 2 }, { history: Int32Array.from({ length: 90 }, (_, i) => i) }),
    ],
    ["rows whose logits are wanted", output({ temperature: 1 }, { logits: true })],
    ["rows whose best ids are wanted", output({ temperature: 1 }, { topLogprobs: 3 })],
  ])("leave %s to the host", (_, request) => {
    const { chosen, slot, bytes } = write([request]);
    expect(chosen).toEqual([false]);
    expect(slot(0)).toMatchObject({ mode: 0 });
    expect(bytes).toBe(POOL_AT);
  });
});
