// Which launches the layers of a step are, by card, weights and place: recorded, without a driver.

import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { gptq4, llama3_8b, makeSpec, plain16 } from "../../../../test/support/shapes.js";
import { layout } from "../../../memory/layout.js";
import type { RunShape } from "../../../memory/packing.js";
import type { DevicePlan } from "../../../memory/plan.js";
import type { LinearFormat } from "../../../model/spec.js";
import type { DeviceContext } from "../cards/device-context.js";
import { type KernelCall, KernelQueue } from "../launch/kernel-queue.js";
import { cudaPacking } from "../packing.js";
import { capturedBytes, capturedSize } from "../steps/captured-steps.js";
import { Forward, type StepShape } from "../steps/forward.js";
import { type PlacedLayer, Stage } from "../steps/stage.js";
import { CHAIN, CHAIN_ATTENTION, CHAIN_ENDS, CHAIN_LAYER, CHAIN_SHAPE } from "./chain-layouts.js";
import { chainLayout } from "./chain-shape.js";

const LAYERS = 4;
const SHAPE = { ...llama3_8b, layers: LAYERS };
const SPEC = makeSpec(SHAPE);
const WITH_ORDER = { ...gptq4, gIdx: true };
const HOPPER = { multiprocessors: 132, major: 9, minor: 0, sharedPerBlock: 232448 };
/** With a quantised cache attentions are launches of their own. */
const run = { context: 512, cacheTokens: 512, cacheType: "q8", maxSequences: 4, prefillChunk: 64 } as const;
const f16 = { ...run, cacheType: "f16" } as const;
const one: StepShape = { rows: 1, decodeRows: 1, tiles: 0, entries: 1, outputs: 1 };
/** Arenas lie where no small number of a kernel's parameters could. */
const ARENA = 1n << 44n;

type Part = "q" | "k" | "v" | "o" | "gate" | "up" | "down";
const PARTS: readonly Part[] = ["q", "k", "v", "o", "gate", "up", "down"];

interface Recorded {
  readonly stage: Stage;
  readonly calls: readonly KernelCall[];
}

interface Case {
  readonly shape?: StepShape;
  readonly format?: LinearFormat;
  readonly card?: typeof HOPPER;
  readonly chains?: boolean;
  readonly runShape?: RunShape;
  readonly windows?: readonly (number | null)[];
  /** Layers of each stage. */
  readonly stages?: readonly number[];
  /** What a loader has found out. */
  readonly loaded?: (layer: PlacedLayer) => void;
}

/** The launches of every stage's layers. */
function record({
  shape = one,
  format = gptq4,
  card = HOPPER,
  chains = true,
  runShape = run,
  windows,
  stages = [LAYERS],
  loaded,
}: Case): Recorded[] {
  const spec = makeSpec({ ...SHAPE, format, ...(windows ? { windows } : {}) });
  const model = { spec, run: runShape, ropeFactor: 1, embeddings: { at: 0n, kind: 0 } };
  const context = { card, driver: null } as unknown as DeviceContext;
  let first = 0;
  return stages.map((count, i) => {
    const range = { first, count };
    first += count;
    const device = { layers: range, stage: layout(spec, range, runShape, cudaPacking) } as DevicePlan & { stage: object };
    const stage = new Stage(context, device as never, spec, Array(LAYERS).fill(0), ARENA * BigInt(i + 1));
    if (loaded) stage.layers.forEach(loaded);
    const calls: KernelCall[] = [];
    const queue = new KernelQueue(context, true, (call) => calls.push(call));
    new Forward(model as never, stage, queue, shape, chains, false).layers();
    return { stage, calls };
  });
}

const rolesOf = (of: Case) => record(of).map(({ calls }) => calls.map(({ role, name }) => role ?? name).join(", "));
const permuted = (index: number, part: Part) => (layer: PlacedLayer) => {
  if (layer.spec.index === index) layer[part].permutation = 1n;
};

const everyLinear = (field: "permutation" | "groupOf") => (layer: PlacedLayer) => {
  for (const part of PARTS) layer[part][field] = 1n;
};

const AHEAD = "embeddings, angles";
const APART = "o, gate-up, down";

describe("the layers of a step of one token", () => {
  it("are attentions, and one launch between two of them", () => {
    expect(rolesOf({})).toEqual([
      `${AHEAD}, qkv, attention, o to qkv, attention, o to qkv, attention, o to qkv, attention, o to down`,
    ]);
  });

  it("end and begin at the stage's ends", () => {
    expect(rolesOf({ stages: [2, 2] })).toEqual([
      `${AHEAD}, qkv, attention, o to qkv, attention, o to down`,
      "angles, qkv, attention, o to qkv, attention, o to down",
    ]);
  });

  const layerApart = `attention, ${APART}`;
  const apart = [`${AHEAD}, ${Array(LAYERS).fill(`qkv, ${layerApart}`).join(", ")}`];
  it.each<[string, Case]>([
    ["where it is switched off", { chains: false }],
    ["on another card", { card: { ...HOPPER, major: 8 } }],
    ["with 8 bits", { format: { ...gptq4, bits: 8 } }],
    ["with groups of 32", { format: { ...gptq4, groupSize: 32 } }],
  ])("go linear by linear %s", (_, of) => {
    expect(rolesOf(of)).toEqual(apart);
    expect(record(of)[0]!.calls.some(({ family }) => family === "linear_chain")).toBe(false);
  });

  it.each<[string, Case]>([
    ["of two tokens", { shape: { rows: 2, decodeRows: 2, tiles: 0, entries: 2, outputs: 2 } }],
    ["with adapters", { shape: { ...one, adapted: true } }],
    ["with plain weights", { format: plain16 }],
    ["with an order of inputs in every linear", { loaded: everyLinear("permutation") }],
    ["with irregular groups", { loaded: everyLinear("groupOf") }],
  ])("have no such launch %s", (_, of) => {
    expect(record(of)[0]!.calls.some(({ family }) => family === "linear_chain")).toBe(false);
  });

  it("go together as far as they can where one linear is of another kind", () => {
    expect(rolesOf({ loaded: permuted(1, "down") })).toEqual([
      `${AHEAD}, qkv, attention, o to qkv, attention, ${APART}, qkv, attention, o to qkv, attention, o to down`,
    ]);
    expect(rolesOf({ loaded: permuted(2, "k") })).toEqual([
      `${AHEAD}, qkv, attention, o to qkv, attention, o to down, qkv, qkv, qkv, attention, o to qkv, attention, o to down`,
    ]);
  });

  it("go in one launch, attention included, over an f16 cache", () => {
    expect(rolesOf({ runShape: f16 })).toEqual([`${AHEAD}, layers`]);
    expect(rolesOf({ runShape: f16, stages: [1, 3] })).toEqual([`${AHEAD}, layers`, "angles, layers"]);
  });

  it("go in one launch as far as they can where one linear is of another kind", () => {
    expect(rolesOf({ runShape: f16, loaded: permuted(2, "down") })).toEqual([
      `${AHEAD}, layers, qkv, attention, ${APART}, layers`,
    ]);
    expect(rolesOf({ runShape: f16, loaded: permuted(0, "k") })).toEqual([
      `${AHEAD}, qkv, qkv, qkv, attention, o to down, layers`,
    ]);
  });

  it.each<[string, Case]>([
    ["where it is switched off", { chains: false }],
    ["on another card", { card: { ...HOPPER, major: 8 } }],
    ["of two tokens", { shape: { rows: 2, decodeRows: 2, tiles: 0, entries: 2, outputs: 2 } }],
    ["with adapters", { shape: { ...one, adapted: true } }],
  ])("have attentions of their own %s", (_, of) => {
    expect(record({ ...of, runShape: f16 })[0]!.calls.some(({ family }) => family === "chain_layers")).toBe(false);
  });

  it.each([
    ["links between attentions", run],
    ["whole layers", f16],
  ])("are computed by the same kernels wherever the model is cut: %s", (_, runShape) => {
    const alone = { ...runShape, maxSequences: 1 };
    const odd = fc.uniqueArray(fc.tuple(fc.nat(LAYERS - 1), fc.constantFrom(...PARTS)), { maxLength: 4 });
    const cuts = fc.constantFrom<readonly number[]>([2, 2], [1, 3], [1, 1, 2], [1, 1, 1, 1]);
    fc.assert(
      fc.property(odd, cuts, (others, stages) => {
        const loaded = (layer: PlacedLayer) => {
          for (const [index, part] of others) permuted(index, part)(layer);
        };
        // Where there may be an order the checkpoint says so, and what a graph takes is planned for it.
        const recorded = record({ runShape, stages, loaded, format: WITH_ORDER });
        expect(kernelOfLinears(recorded)).toEqual(kernelOfLinears(record({ runShape, loaded, format: WITH_ORDER })));
        for (const { stage, calls } of recorded) {
          const planned = stage.layers.map((layer) => capturedSize.layer(SPEC, layer.spec, alone));
          expect(capturedBytes(calls.length)).toBeLessThanOrEqual(planned.reduce((sum, bytes) => sum + bytes, capturedBytes(2)));
        }
      }),
      { numRuns: 50 },
    );
  });
});

/** By linear, the families of the kernels that are given its weights, once each. */
function kernelOfLinears(stages: readonly Recorded[]): Record<string, string[]> {
  return Object.fromEntries(
    stages.flatMap(({ stage, calls }) => {
      const given = calls.map(({ family, parameters }) => ({ family, values: pointersOf(parameters) }));
      return stage.layers.flatMap((layer) =>
        PARTS.map((part): [string, string[]] => {
          const { weights } = layer[part];
          return [
            `${layer.spec.index}.${part}`,
            given.filter(({ values }) => values.includes(weights)).map(({ family }) => family),
          ];
        }),
      );
    }),
  );
}

const pointersOf = (parameters: Uint8Array, at = 0, count = Math.floor((parameters.length - at) / 8)) => [
  ...new BigUint64Array(parameters.slice(at, at + 8 * count).buffer),
];

const layerAt = CHAIN.bytes + 4 * CHAIN_SHAPE.bytes;
const bytesOf = (parts: readonly Part[], of: PlacedLayer) => parts.reduce((sum, part) => sum + of[part].weightBytes, 0);
const weightsOf = (layer: PlacedLayer) =>
  (["o", "gate", "up", "down", "q", "k", "v"] as const).map((part) => layer[part].weights);

describe("runChain", () => {
  const [{ stage, calls }] = record({}) as [Recorded];
  const chains = calls.filter(({ family }) => family === "linear_chain");
  const block = stage.at("scratch.block");
  const residual = stage.at("scratch.residual");
  const firstAt = layerAt + CHAIN_ENDS.bytes;

  it("has all blocks run at once, and says what they read", () => {
    const [first, between] = chains as [KernelCall, KernelCall];
    const [layer, next] = stage.layers as [PlacedLayer, PlacedLayer];
    expect(chains.map(({ together }) => together)).toEqual(Array(LAYERS + 1).fill(true));
    expect(first).toMatchObject({ name: "linear_chain_q4_g128", grid: [132], bytes: bytesOf(["q", "k", "v"], layer) });
    expect(between.bytes).toBe(bytesOf(["o", "gate", "up", "down"], layer) + bytesOf(["q", "k", "v"], next));
  });

  it("reads what attention has left and writes where the next one reads", () => {
    const [layer, next] = stage.layers as [PlacedLayer, PlacedLayer];
    const places = chainLayout(
      stage.layers.map(({ spec }) => spec),
      run.cacheType,
    )!;
    const scratch = stage.at("scratch.chain");
    const { parameters } = chains[1]!;
    expect(pointersOf(parameters, 0, 5)).toEqual([
      residual,
      ...[places.sums, places.gated, places.pieces, places.epochs].map((at) => scratch + BigInt(at)),
    ]);
    expect(pointersOf(parameters, layerAt, 4)).toEqual([block, block, block + 8192n, block + 8192n + 2048n]);
    expect(pointersOf(parameters, firstAt, 7)).toEqual(weightsOf(layer));
    expect(pointersOf(parameters, firstAt + CHAIN_LAYER.bytes, 7)).toEqual(weightsOf(next));
    const attention = calls.find(({ role }) => role === "attention")!;
    expect(pointersOf(attention.parameters)).toContain(block);
    expect(places.bytes).toBe(stage.size("scratch.chain"));
  });

  it("begins with q, k and v alone", () => {
    const { parameters } = chains[0]!;
    expect(pointersOf(parameters, firstAt, 7)).toEqual(weightsOf(stage.layers[0]!));
    expect(parameters.subarray(firstAt + CHAIN_LAYER.bytes).every((byte) => byte === 0)).toBe(true);
  });
});

describe("runLayers", () => {
  const windows = [null, 256, null, 256];
  const [{ stage, calls }] = record({ runShape: f16, windows }) as [Recorded];
  const call = calls.find(({ family }) => family === "chain_layers")!;

  it("says what it reads: all weights, and what attention of each layer reads", () => {
    const all = stage.layers.reduce((sum, layer) => sum + bytesOf(PARTS, layer), 0);
    expect(call).toMatchObject({ together: true, bytes: all, attentions: LAYERS });
  });

  it("gives each layer its keys, values and window, and all of them the token's angles and position", () => {
    stage.layers.forEach((layer, i) => {
      const at = layerAt + CHAIN_ATTENTION.bytes + i * CHAIN_LAYER.bytes;
      expect(pointersOf(call.parameters, at, 7)).toEqual(weightsOf(layer));
      expect(pointersOf(call.parameters, at + 18 * 8, 2)).toEqual([layer.keys, layer.values]);
      expect(new DataView(call.parameters.buffer).getInt32(at + 21 * 8, true)).toBe(windows[i] ?? 0);
    });
    expect(pointersOf(call.parameters, layerAt, 1)).toEqual([stage.at("scratch.ropeTable")]);
  });
});
