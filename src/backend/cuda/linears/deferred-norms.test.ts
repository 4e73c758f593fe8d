// Which launches the norms of a step are, and what they hand on: recorded, without a card.

import { describe, expect, it } from "vitest";
import { gptq4, llama3_8b, makeSpec, plain16 } from "../../../../test/support/shapes.js";
import { layout } from "../../../memory/layout.js";
import type { DevicePlan } from "../../../memory/plan.js";
import type { LinearFormat } from "../../../model/spec.js";
import type { DeviceContext } from "../cards/device-context.js";
import { type KernelCall, KernelQueue } from "../launch/kernel-queue.js";
import type { ParameterLayout } from "../launch/parameter-layout.js";
import { cudaPacking } from "../packing.js";
import { Forward, type StepShape } from "../steps/forward.js";
import { type PlacedLayer, Stage } from "../steps/stage.js";
import { BATCH_LINEAR, DEFERRED_NORM, DEFERRED_NORM_LAUNCH } from "./batch-layouts.js";
import { CARRIED_BYTES, deferredScratchBytes, leavesFactors } from "./deferred-norms.js";
import { linearScratchOf } from "./run-linear.js";

const LAYERS = 3;
const HIDDEN = llama3_8b.hidden;
const HOPPER = { multiprocessors: 132, major: 9, minor: 0, sharedPerBlock: 232448 };
const RUN = { context: 512, cacheTokens: 512, cacheType: "f16", maxSequences: 16, prefillChunk: 64 } as const;
const ARENA = 1n << 44n;
const LINEAR_AT = 128;

interface Case {
  readonly rows?: number;
  readonly adapted?: boolean;
  readonly format?: LinearFormat;
  readonly hidden?: number;
  readonly heads?: number;
  readonly card?: typeof HOPPER;
  /** Layers of each stage. */
  readonly stages?: readonly number[];
  /** What a loader has found out. */
  readonly loaded?: (layer: PlacedLayer) => void;
}

/** The launches of every stage's layers; `carried` as StepLauncher has it. */
function record({ rows = 8, adapted = false, card = HOPPER, stages = [LAYERS], loaded, ...of }: Case) {
  const { format = gptq4, hidden = HIDDEN, heads = llama3_8b.heads } = of;
  const spec = makeSpec({ ...llama3_8b, hidden, heads, layers: LAYERS, format });
  const shape: StepShape = { rows, decodeRows: rows, tiles: 0, entries: rows, outputs: rows, adapted };
  const model = { spec, run: RUN, ropeFactor: 1, embeddings: { at: 0n, kind: 0 } };
  const context = { card, driver: { call: () => 0 } } as unknown as DeviceContext;
  let first = 0;
  let carried = false;
  return stages.map((count, i) => {
    const range = { first, count };
    first += count;
    const device = { layers: range, stage: layout(spec, range, RUN, cudaPacking) } as DevicePlan & { stage: object };
    const stage = new Stage(context, device as never, spec, Array(LAYERS).fill(0), ARENA * BigInt(i + 1));
    if (loaded) stage.layers.forEach(loaded);
    const calls: KernelCall[] = [];
    const queue = new KernelQueue(context, true, (call) => calls.push(call));
    // No chains, which put norms off inside.
    new Forward(model as never, stage, queue, shape, false, carried).layers();
    if (count > 0) carried = leavesFactors(queue, stage, { ...shape, hidden }, linearScratchOf(stage));
    return { stage, calls, carried };
  });
}

const named = (of: Case, pattern: RegExp) =>
  record(of).map(({ calls }) => calls.map(({ name }) => name).filter((name) => pattern.test(name)));
const normsOf = (of: Case) => named(of, /norm/);

function fieldsOf({ parameters }: KernelCall, { places }: ParameterLayout, offset = 0): Record<string, bigint | number> {
  const view = new DataView(parameters.buffer, parameters.byteOffset + offset);
  return Object.fromEntries(
    places.map(({ name, kind, at }) => [
      name,
      kind === "u64" ? view.getBigUint64(at, true) : kind === "f32" ? view.getFloat32(at, true) : view.getInt32(at, true),
    ]),
  );
}

function ownFactor(call: KernelCall) {
  const { own } = fieldsOf(call, DEFERRED_NORM_LAUNCH);
  return own;
}

function yOf(call: KernelCall) {
  const { y0 } = fieldsOf(call, BATCH_LINEAR, LINEAR_AT);
  return y0;
}

/** What the calls of a role are told of norms, and where y goes. */
function toldOf(calls: readonly KernelCall[], role: string) {
  return calls
    .filter((call) => call.role === role)
    .map((call) => ({
      ...fieldsOf(call, DEFERRED_NORM, LINEAR_AT + BATCH_LINEAR.bytes),
      y0: yOf(call),
    }));
}

describe("norms that are put off", () => {
  it.each([5, 8, 9, 16])("take one launch in all layers of a stage with %i rows", (rows) => {
    expect(normsOf({ rows })).toEqual([["rms_norm_deferred"]]);
    expect(normsOf({ rows, stages: [1, 0, 2] })).toEqual([["rms_norm_deferred"], [], ["rms_norm_deferred"]]);
  });

  it.each<[string, Case]>([
    ["fewer rows", { rows: 4 }],
    ["more rows", { rows: 17 }],
    ["adapters, which read x, too", { adapted: true }],
    ["another card", { card: { ...HOPPER, major: 8 } }],
    ["fp16 weights", { format: plain16 }],
    ["a wider residual stream than a block has registers for", { hidden: 8448 }],
  ])("are not there with %s", (_, of) => {
    const [{ carried, calls }] = record(of) as [ReturnType<typeof record>[0]];
    expect(calls.filter(({ name }) => /^rms_norm(_few)?$/.test(name))).toHaveLength(2 * LAYERS);
    expect(calls.filter(({ name }) => name === "rms_norm_deferred")).toHaveLength(0);
    expect(carried).toBe(false);
  });

  it("hand factors from norm to norm", () => {
    const [{ stage, calls }] = record({}) as [ReturnType<typeof record>[0]];
    const squares = stage.at("scratch.deferred");
    const first = squares + BigInt((HIDDEN / 16) * 16 * 4);
    const second = stage.at("scratch.residual") + BigInt(8 * HIDDEN * 4);
    const x = stage.at("scratch.normed");
    const eps = Math.fround(1e-5);
    const [begin] = calls.filter(({ name }) => name === "rms_norm_deferred");
    expect(fieldsOf(begin!, DEFERRED_NORM_LAUNCH)).toEqual({
      ...{ residual: stage.at("scratch.residual"), weight: stage.layers[0]!.norms.input, y: x, squares, carried: second },
      ...{ hidden: HIDDEN, places: 8, own: 1, eps },
    });
    const none = { unused0: 0, unused1: 0n, unused2: 0n, unused3: 0n };
    const read = { ...none, weight: 0n, squares, eps };
    const left = { ...none, squares, factors: 0n, eps: 0, y0: x };
    expect(toldOf(calls, "qkv")).toMatchObject(Array(LAYERS).fill({ ...read, carried: second, factors: first }));
    expect(toldOf(calls, "gate-up")).toMatchObject(Array(LAYERS).fill({ ...read, carried: first, factors: second }));
    const { layers } = stage;
    expect(toldOf(calls, "o")).toEqual(layers.map(({ norms }) => ({ ...left, carried: first, weight: norms.postAttention })));
    const onwards = layers.slice(1).map(({ norms }) => ({ ...left, carried: second, weight: norms.input }));
    // The last layer's stream goes to another norm.
    expect(toldOf(calls, "down")).toEqual([...onwards, { ...left, squares: 0n, carried: 0n, weight: 0n, y0: 0n }]);
  });

  it("begin a later stage with the factors that came with the residual stream", () => {
    const stages = record({ stages: [1, 2] });
    const own = stages.map(({ calls }) => {
      const [begin] = calls.filter(({ name }) => name === "rms_norm_deferred");
      return ownFactor(begin!);
    });
    expect(own).toEqual([1, 0]);
    expect(stages.map(({ carried }) => carried)).toEqual([true, true]);
  });

  const irregular = (part: "o" | "down" | "gate" | "q") => (layer: PlacedLayer) => {
    if (layer.spec.index === 1) layer[part].groupOf = 4096n;
  };
  it.each([
    // What others leave is then made by launches.
    ["o", ["rms_norm_deferred", "rms_norm_deferred"], [1, 0]],
    ["down", ["rms_norm_deferred", "rms_norm_deferred"], [1, 0]],
    // A norm behind one that is not put off has nothing to carry.
    ["gate", ["rms_norm_deferred", "rms_norm_few", "rms_norm_deferred"], [1, 1]],
    ["q", ["rms_norm_deferred", "rms_norm_few", "rms_norm_deferred"], [1, 1]],
  ] as const)("go round a second layer whose %s has groups of unequal lengths, wherever layers are cut", (part, norms, own) => {
    const ownOf = (stages: readonly number[]) =>
      record({ stages, loaded: irregular(part) })
        .flatMap(({ calls }) => calls)
        .filter(({ name }) => name === "rms_norm_deferred")
        .map(ownFactor);
    expect(normsOf({ loaded: irregular(part) })).toEqual([norms]);
    expect(ownOf([LAYERS])).toEqual(own);
    // Cut before the third layer: it has what it has anyway.
    const cut = ownOf([2, 1]);
    expect(cut.slice(0, own.length)).toEqual(own);
    expect(cut.slice(own.length)).toEqual(part === "o" || part === "q" ? [0] : []);
  });

  it("are made by launches behind an o that leaves nothing, wherever layers are cut, also where it could make them itself", () => {
    // 33 heads of 128: no whole slices of o's inputs.
    const ownOf = (rows: number, stages: readonly number[]) =>
      record({ rows, heads: 33, stages }).map(({ calls }) =>
        calls.filter(({ name }) => name === "rms_norm_deferred").map(ownFactor),
      );
    for (const rows of [8, 9, 16]) {
      expect(ownOf(rows, [LAYERS])).toEqual([[1, 0, 0, 0]]);
      expect(ownOf(rows, [1, 2])).toEqual([
        [1, 0],
        [0, 0, 0],
      ]);
    }
  });

  it("have room for all that they leave", () => {
    const [{ stage }] = record({ rows: 16 }) as [ReturnType<typeof record>[0]];
    expect(stage.size("scratch.deferred")).toBeGreaterThanOrEqual((HIDDEN / 16) * 16 * 4 + 16 * 4);
    expect(stage.size("scratch.deferred")).toBeGreaterThanOrEqual(deferredScratchBytes(HIDDEN));
    const least = layout(
      makeSpec({ ...llama3_8b, layers: 1 }),
      { first: 0, count: 1 },
      { ...RUN, prefillChunk: 16 },
      cudaPacking,
    );
    const residual = least.regions.find(({ name }) => name === "scratch.residual")!;
    expect(residual.bytes).toBeGreaterThanOrEqual(16 * HIDDEN * 4 + CARRIED_BYTES);
  });
});
