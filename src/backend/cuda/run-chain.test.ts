// Which launches the layers of a step are, by card, weights and place: recorded, without a driver.

import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { gptq4, llama3_8b, makeSpec, plain16 } from "../../../test/support/shapes.js";
import { layout } from "../../memory/layout.js";
import type { DevicePlan } from "../../memory/plan.js";
import type { LinearFormat } from "../../model/spec.js";
import { capturedBytes, capturedSize } from "./captured-steps.js";
import { chainLayout } from "./chain-shape.js";
import type { DeviceContext } from "./device-context.js";
import { Forward, type StepShape } from "./forward.js";
import { CHAIN, CHAIN_WEIGHTS } from "./kernel-parameters.js";
import { type KernelCall, KernelQueue } from "./kernel-queue.js";
import { cudaPacking } from "./packing.js";
import { type PlacedLayer, Stage } from "./stage.js";

const LAYERS = 4;
const SHAPE = { ...llama3_8b, layers: LAYERS };
const SPEC = makeSpec(SHAPE);
const HOPPER = { multiprocessors: 132, major: 9, minor: 0, sharedPerBlock: 232448 };
const run = { context: 512, cacheTokens: 512, cacheType: "f16", maxSequences: 4, prefillChunk: 64 } as const;
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
  /** Layers of each stage. */
  readonly stages?: readonly number[];
  /** What a loader has found out. */
  readonly loaded?: (layer: PlacedLayer) => void;
}

/** The launches of every stage's layers. */
function record({ shape = one, format = gptq4, card = HOPPER, chains = true, stages = [LAYERS], loaded }: Case): Recorded[] {
  const spec = makeSpec({ ...SHAPE, format });
  const model = { spec, run, ropeFactor: 1, embeddings: { at: 0n, kind: 0 } };
  const context = { card, driver: null } as unknown as DeviceContext;
  let first = 0;
  return stages.map((count, i) => {
    const range = { first, count };
    first += count;
    const device = { layers: range, stage: layout(spec, range, run, cudaPacking) } as DevicePlan & { stage: object };
    const stage = new Stage(context, device as never, spec, Array(LAYERS).fill(0), ARENA * BigInt(i + 1));
    if (loaded) stage.layers.forEach(loaded);
    const calls: KernelCall[] = [];
    const queue = new KernelQueue(context, true, (call) => calls.push(call));
    new Forward(model as never, stage, queue, shape, chains).layers();
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
    ["of two tokens", { shape: { rows: 2, decodeRows: 2, tiles: 0, entries: 2, outputs: 2 } }],
  ])("go linear by linear %s", (_, of) => {
    expect(rolesOf(of)).toEqual(apart);
    expect(record(of)[0]!.calls.some(({ family }) => family === "linear_chain")).toBe(false);
  });

  it.each<[string, Case]>([
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

  it("are computed by the same kernels wherever the model is cut", () => {
    const alone = { ...run, maxSequences: 1 };
    const odd = fc.uniqueArray(fc.tuple(fc.nat(LAYERS - 1), fc.constantFrom(...PARTS)), { maxLength: 4 });
    const cuts = fc.constantFrom<readonly number[]>([2, 2], [1, 3], [1, 1, 2], [1, 1, 1, 1]);
    fc.assert(
      fc.property(odd, cuts, (others, stages) => {
        const loaded = (layer: PlacedLayer) => {
          for (const [index, part] of others) permuted(index, part)(layer);
        };
        const recorded = record({ stages, loaded });
        expect(kernelOfLinears(recorded)).toEqual(kernelOfLinears(record({ loaded })));
        // What a graph of it takes is planned for.
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

describe("runChain", () => {
  const [{ stage, calls }] = record({}) as [Recorded];
  const chains = calls.filter(({ family }) => family === "linear_chain");
  const block = stage.at("scratch.block");
  const residual = stage.at("scratch.residual");
  const weightsAt = (i: number) => CHAIN.bytes + i * CHAIN_WEIGHTS.bytes;

  it("has all blocks run at once, and says what they read", () => {
    const [first, between] = chains as [KernelCall, KernelCall];
    const [layer, next] = stage.layers as [PlacedLayer, PlacedLayer];
    const bytes = (parts: readonly Part[], of: PlacedLayer) => parts.reduce((sum, part) => sum + of[part].weightBytes, 0);
    expect(chains.map(({ together }) => together)).toEqual(Array(LAYERS + 1).fill(true));
    expect(first).toMatchObject({ name: "linear_chain_q4_g128", grid: [132], bytes: bytes(["q", "k", "v"], layer) });
    expect(between.bytes).toBe(bytes(["o", "gate", "up", "down"], layer) + bytes(["q", "k", "v"], next));
  });

  it("reads what attention has left and writes where the next one reads", () => {
    const [layer, next] = stage.layers as [PlacedLayer, PlacedLayer];
    const places = chainLayout(stage.layers.map(({ spec }) => spec))!;
    const scratch = stage.at("scratch.chain");
    const { parameters } = chains[1]!;
    expect(pointersOf(parameters, 0, 11)).toEqual([
      ...[block, layer.norms.postAttention, next.norms.input, residual],
      ...[block, block + 8192n, block + 8192n + 2048n],
      ...[places.sums, places.gated, places.pieces, places.epochs].map((at) => scratch + BigInt(at)),
    ]);
    const attention = calls.find(({ role }) => role === "attention")!;
    expect(pointersOf(attention.parameters)).toContain(block);
    expect(places.bytes).toBe(stage.size("scratch.chain"));
  });

  it("sends the residual stream on as it is where nothing comes before q, k and v", () => {
    const { parameters } = chains[0]!;
    const { q, k, v } = stage.layers[0]!;
    for (const [i, outputs] of [4096, 0, 4096].entries()) {
      expect(pointersOf(parameters, weightsAt(i), 6)).toEqual([0n, 0n, 0n, 0n, 0n, 0n]);
      expect([...new Int32Array(parameters.slice(weightsAt(i) + 48, weightsAt(i) + 64).buffer)]).toEqual([outputs, 0, 0, 0]);
    }
    expect(pointersOf(parameters, weightsAt(3), 6)).toEqual([q.weights, k.weights, v.weights, q.bias, k.bias, v.bias]);
  });
});
