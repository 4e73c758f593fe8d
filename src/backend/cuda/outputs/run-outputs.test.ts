// Which launches end a step, by card, weights and outputs: recorded, without a driver.

import { describe, expect, it } from "vitest";
import { llama3_8b, makeSpec } from "../../../../test/support/shapes.js";
import { layout } from "../../../memory/layout.js";
import type { DevicePlan } from "../../../memory/plan.js";
import type { ModelSpec } from "../../../model/spec.js";
import type { DeviceContext } from "../cards/device-context.js";
import { type KernelCall, KernelQueue } from "../launch/kernel-queue.js";
import type { ParameterLayout } from "../launch/parameter-layout.js";
import { cudaPacking } from "../packing.js";
import { Stage } from "../steps/stage.js";
import { headSlices } from "./head-launch.js";
import { CHOOSE, HALF_RING, HEAD } from "./output-layouts.js";
import { runOutputs } from "./run-outputs.js";

const SPEC = makeSpec({ ...llama3_8b, layers: 1 });
const HOPPER = { multiprocessors: 132, major: 9, minor: 0, sharedPerBlock: 232448 };
const RUN = { context: 512, cacheTokens: 512, cacheType: "f16", maxSequences: 1, prefillChunk: 64 } as const;
const ARENA = 1n << 44n;
const [ROWS, TARGETS, IDS] = [111n, 222n, 333n];
const SCRATCH = { expanded: 0n, expandedBytes: 1 << 24, gathered: 0n, pieces: 0n, pieceBytes: 0 };

interface Case {
  readonly count?: number;
  readonly card?: typeof HOPPER;
  readonly spec?: ModelSpec;
}

function record({ count = 1, card = HOPPER, spec = SPEC }: Case): { stage: Stage; calls: KernelCall[] } {
  const range = { first: 0, count: 1 };
  const device = { layers: range, stage: layout(spec, range, RUN, cudaPacking) } as DevicePlan & { stage: object };
  const context = { card, driver: null } as unknown as DeviceContext;
  const stage = new Stage(context, device as never, spec, [0], ARENA);
  const calls: KernelCall[] = [];
  const queue = new KernelQueue(context, true, (call) => calls.push(call));
  runOutputs(queue, { spec, run: RUN }, stage, { count, rows: ROWS, targets: TARGETS, ids: IDS }, SCRATCH);
  return { stage, calls };
}

const withHead = (changes: Partial<ModelSpec["head"]>): ModelSpec => ({ ...SPEC, head: { ...SPEC.head, ...changes } });
const rolesOf = (of: Case) => record(of).calls.map(({ role }) => role);

/** Fields of a call's structure. */
function fieldsOf({ parameters }: KernelCall, { places }: ParameterLayout): Record<string, bigint | number> {
  const view = new DataView(parameters.buffer);
  return Object.fromEntries(
    places.map(({ name, kind, at }) => [
      name,
      kind === "u64" ? view.getBigUint64(at, true) : kind === "f32" ? view.getFloat32(at, true) : view.getInt32(at, true),
    ]),
  );
}

describe("what ends a step", () => {
  it("is for one output the head, norm and facts included, and the choice", () => {
    expect(rolesOf({})).toEqual(["head", "choice of tokens"]);
    expect(record({}).calls[0]).toMatchObject({
      ...{ family: "linear_head", name: "linear_head_k4096", grid: [132], bytes: 128256 * 4096 * 2 },
    });
  });

  it.each<[string, Case]>([
    ["for more outputs", { count: 9 }],
    ["on another card", { card: { ...HOPPER, major: 8 } }],
    ["on a card of which there is no image with it", { card: { ...HOPPER, major: 12 } }],
    ["with a quantised head", { spec: withHead({ format: SPEC.layers[0]!.attention.q.format }) }],
    ["with a wider head than the kernel has registers for", { spec: { ...withHead({ in: 8200 }), hiddenSize: 8200 } }],
  ])("is norm, head, facts and choice %s", (_, of) => {
    expect(rolesOf(of)).toEqual(["final norm", "head", "facts of logits", "choice of tokens"]);
  });

  it.each([2, 8])("is for %i outputs norm, head with its facts, and choice", (count) => {
    const { stage, calls } = record({ count });
    expect(calls.map(({ role }) => role)).toEqual(["final norm", "head", "choice of tokens"]);
    expect(calls[1]).toMatchObject({ family: "linear_half_ring", name: "linear_half_ring_k4096", grid: [132] });
    const places = { slices: stage.at("scratch.slices") };
    expect(fieldsOf(calls[1]!, HALF_RING)).toEqual({
      ...{ weights: stage.head!.linear.weights, bias: 0n, x: stage.at("scratch.finalNormed"), y: stage.at("scratch.logits") },
      ...{ ...places, m: count, n: 128256 },
    });
    expect(fieldsOf(calls[2]!, CHOOSE)).toMatchObject({ ...places, logits: stage.at("scratch.logits"), slicesPerRow: 8016 });
  });

  it("reads the output's row and leaves what a step is asked for", () => {
    const { stage, calls } = record({});
    expect(fieldsOf(calls[0]!, HEAD)).toMatchObject({
      ...{ weights: stage.head!.linear.weights, bias: 0n, norm: stage.head!.norm },
      ...{ residual: stage.at("scratch.residual"), rows: ROWS, hiddenState: stage.at("scratch.hiddenStates") },
      ...{ logits: stage.at("scratch.logits"), slices: stage.at("scratch.slices"), n: 128256, k: 4096 },
      eps: Math.fround(SPEC.finalNorm.eps),
    });
    expect(fieldsOf(calls[1]!, CHOOSE)).toMatchObject({
      ...{ logits: stage.at("scratch.logits"), slices: stage.at("scratch.slices"), targets: TARGETS, ids: IDS },
      ...{ facts: stage.at("scratch.facts"), vocab: 128256, slicesPerRow: 16032 },
    });
  });

  it("has room for the facts of all slices, on any card", () => {
    const { stage } = record({ card: { ...HOPPER, major: 8 } });
    const shape = { inputs: SPEC.head.in, outputs: SPEC.head.out };
    expect(stage.size("scratch.slices")).toBeGreaterThanOrEqual(headSlices(shape) * 16);
    const few = layout(SPEC, { first: 0, count: 1 }, { ...RUN, maxSequences: 8, cacheTokens: 4096 }, cudaPacking);
    expect(few.regions.find(({ name }) => name === "scratch.slices")!.bytes).toBeGreaterThanOrEqual(8 * 8016 * 16);
    const many = layout(SPEC, { first: 0, count: 1 }, { ...RUN, maxSequences: 1024, cacheTokens: 2 ** 18 }, cudaPacking);
    expect(many.regions.find(({ name }) => name === "scratch.slices")!.bytes).toBeGreaterThanOrEqual(1024 * 32 * 16);
  });
});
