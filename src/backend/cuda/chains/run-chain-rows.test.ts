// Which launches the layers of a step of few tokens are, by card, weights and place, and what is handed on between them: recorded, without a driver.

import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { gptq4, llama7b, makeSpec, plain16, type Shape } from "../../../../test/support/shapes.js";
import { layout } from "../../../memory/layout.js";
import type { DevicePlan } from "../../../memory/plan.js";
import { RegionIndex } from "../../../memory/regions.js";
import type { LayerSpec, ModelSpec } from "../../../model/spec.js";
import type { DeviceContext } from "../cards/device-context.js";
import type { KernelCall } from "../launch/kernel-queue.js";
import type { ParameterLayout } from "../launch/parameter-layout.js";
import { BATCH_LINEAR, DEFERRED_NORM, DEFERRED_NORM_LAUNCH } from "../linears/batch-layouts.js";
import { deferredScratchBytes } from "../linears/deferred-norms.js";
import { cudaPacking } from "../packing.js";
import { capturedBytes, capturedSize } from "../steps/captured-steps.js";
import type { StepShape } from "../steps/forward.js";
import { type PlacedLayer, Stage } from "../steps/stage.js";
import { StepLauncher } from "../steps/step-launcher.js";
import { CHAIN_LAYER, CHAIN_ROWS, CHAIN_SHAPE } from "./chain-layouts.js";
import { chainRowsLaunch } from "./chain-rows-launch.js";
import { chainRowsLayout, chainRowsShape } from "./chain-rows-shape.js";

const LAYERS = 4;
const HIDDEN = llama7b.hidden;
const HOPPER = { multiprocessors: 132, major: 9, minor: 0, sharedPerBlock: 232448 };
const RUN = { context: 512, cacheTokens: 8192, cacheType: "f16", maxSequences: 16, prefillChunk: 64 } as const;
/** Arenas lie where no small number of a kernel's parameters could. */
const ARENA = 1n << 44n;

type Part = "q" | "k" | "v" | "o" | "gate" | "up" | "down";
const PARTS: readonly Part[] = ["q", "k", "v", "o", "gate", "up", "down"];
type OwnField = "permutation" | "groupOf";

interface Case {
  readonly rows?: number;
  /** Of a step that is no decode step: tiles of its prompt. */
  readonly tiles?: number;
  readonly adapted?: boolean;
  readonly model?: Partial<Shape>;
  readonly layer?: (layer: LayerSpec) => LayerSpec;
  readonly card?: typeof HOPPER;
  readonly chains?: boolean;
  /** Layers of each stage. */
  readonly stages?: readonly number[];
  /** What a loader has found out. */
  readonly loaded?: (layer: PlacedLayer) => void;
}

interface Recorded {
  readonly spec: ModelSpec;
  readonly stage: Stage;
  /** Of the stage's layers. */
  readonly calls: readonly KernelCall[];
}

/** The launches of every stage's layers. */
function record({
  rows = 8,
  tiles = 0,
  adapted = false,
  card = HOPPER,
  chains = true,
  stages = [LAYERS],
  ...of
}: Case): Recorded[] {
  const plain = makeSpec({ ...llama7b, layers: LAYERS, ...of.model });
  const spec = { ...plain, layers: plain.layers.map(of.layer ?? ((layer) => layer)) };
  const shape: StepShape = { rows, decodeRows: tiles > 0 ? 0 : rows, tiles, entries: rows, outputs: rows, adapted };
  const model = { spec, run: RUN, ropeFactor: 1, embeddings: { at: 0n, kind: 0 } };
  // One card for all, so that nothing is needed to get across.
  const context = {
    card,
    driver: { call: () => 0 },
    use() {
      return this;
    },
  } as unknown as DeviceContext;
  let first = 0;
  const placed = stages.map((count, i) => {
    const range = { first, count };
    first += count;
    const device = { layers: range, stage: layout(spec, range, RUN, cudaPacking) } as DevicePlan & { stage: object };
    const stage = new Stage(context, device as never, spec, Array(LAYERS).fill(0), ARENA * BigInt(i + 1));
    if (of.loaded) stage.layers.forEach(of.loaded);
    return stage;
  });
  const launcher = new StepLauncher({ stages: placed, model: model as never, peers: false, overlap: true, chains });
  return placed.map((stage, i) => {
    const calls = launcher.decodeCalls(i, shape);
    const end = i < stages.length - 1 ? calls.length : calls.findIndex(({ role }) => /final/.test(role ?? ""));
    return { spec, stage, calls: calls.slice(0, end) };
  });
}

const rolesOf = (of: Case) => record(of).map(({ calls }) => calls.map(({ role, name }) => role ?? name).join(", "));
const linksOf = (calls: readonly KernelCall[]) => calls.filter(({ family }) => family === "linear_chain_rows");
const odd =
  (index: number, part: Part, field: OwnField = "permutation") =>
  (layer: PlacedLayer) => {
    if (layer.spec.index === index) layer[part][field] = 1n;
  };

const AHEAD = "embeddings, angles";
const APART = "o, norm, gate-up, down";
const LINK = "attention, o to qkv";

describe("the layers of a step of few tokens", () => {
  it.each([2, 3, 5, 8])("are an attention and a launch each: %i tokens", (rows) => {
    const whole = `${AHEAD}, norm, qkv, ${LINK}, ${LINK}, ${LINK}, attention, o to down`;
    expect(rolesOf({ rows })).toEqual([whole]);
    // Of a prompt, too.
    expect(rolesOf({ rows, tiles: 1 })).toEqual([whole.replaceAll("attention", "rope, new keys and values, attention")]);
  });

  it("end and begin at the stage's ends, with a norm's launch where nobody has left factors", () => {
    expect(rolesOf({ stages: [1, 0, 3] })).toEqual([
      `${AHEAD}, norm, qkv, attention, o to down`,
      "",
      `angles, qkv, ${LINK}, ${LINK}, attention, o to down`,
    ]);
  });

  it.each<[string, Case]>([
    ["of one token", { rows: 1 }],
    ["of nine tokens", { rows: 9 }],
    ["where it is switched off", { chains: false }],
    ["with adapters", { adapted: true }],
    ["on a card before Hopper", { card: { ...HOPPER, major: 8 } }],
    ["on a card after Hopper", { card: { ...HOPPER, major: 10 } }],
    ["with less shared memory", { card: { ...HOPPER, sharedPerBlock: 101376 } }],
    ["with 8 bits", { model: { format: { ...gptq4, bits: 8 } } }],
    ["with groups of 32", { model: { format: { ...gptq4, groupSize: 32 } } }],
    ["with plain weights", { model: { format: plain16 } }],
    ["with layers of several widths", { model: { intermediate: [11008, 11008, 11008, 12288] } }],
    ["with a narrow MLP", { model: { intermediate: 3968 } }],
    ["with norms that differ", { layer: (layer) => ({ ...layer, inputNorm: { ...layer.inputNorm, eps: 1e-6 } }) }],
    ["with an order of inputs in every layer", { loaded: (layer) => odd(layer.spec.index, "down")(layer) }],
    ["with irregular groups in every layer", { loaded: (layer) => odd(layer.spec.index, "k", "groupOf")(layer) }],
  ])("have no such launch %s", (_, of) => {
    const [{ calls }] = record(of) as [Recorded];
    expect(calls.filter(({ family }) => /attention|chain_layers/.test(family)).length).toBeGreaterThan(0);
    expect(linksOf(calls)).toEqual([]);
  });

  it("go round a layer that has a linear of another kind, whole", () => {
    const around = `${AHEAD}, norm, qkv, attention, o to down, norm, qkv, attention, ${APART}, norm, qkv, ${LINK}, attention, o to down`;
    expect(rolesOf({ rows: 4, loaded: odd(1, "down") })).toEqual([around]);
    expect(rolesOf({ rows: 4, loaded: odd(1, "o") })).toEqual([around]);
    // Of linears that put norms off the layer behind them finds factors.
    expect(rolesOf({ rows: 5, loaded: odd(1, "down") })).toEqual([
      `${AHEAD}, norm, qkv, attention, o to down, norm, qkv, attention, o, gate-up, act-order, down, qkv, ${LINK}, attention, o to down`,
    ]);
  });

  it("leave no x for a layer that goes this way", () => {
    const [{ stage, calls }] = record({ loaded: odd(1, "o") }) as [Recorded];
    const down = calls.find(({ role }) => role === "down")!;
    expect(pointersOf(down.parameters)).toContain(stage.layers[1]!.down.weights);
    expect(fieldsOf(down, DEFERRED_NORM, 128 + BATCH_LINEAR.bytes)).toMatchObject({ weight: 0n, squares: 0n });
  });

  it("go apart between layers whose norms differ", () => {
    const eps = (layer: LayerSpec) => (layer.index < 2 ? 1e-5 : 1e-6);
    const layer = (of: LayerSpec): LayerSpec => ({
      ...of,
      inputNorm: { ...of.inputNorm, eps: eps(of) },
      postAttentionNorm: { ...of.postAttentionNorm, eps: eps(of) },
    });
    expect(rolesOf({ layer })).toEqual([
      `${AHEAD}, norm, qkv, ${LINK}, attention, o to down, qkv, ${LINK}, attention, o to down`,
    ]);
    const links = linksOf(record({ layer })[0]!.calls).map((call) => fieldsOf(call).eps);
    expect(links).toEqual([1e-5, 1e-5, 1e-5, 1e-6, 1e-6, 1e-6].map(Math.fround));
  });

  it("are computed by the same kernels, from the same factors, wherever the model is cut", () => {
    const others = fc.uniqueArray(
      fc.tuple(fc.nat(LAYERS - 1), fc.constantFrom(...PARTS), fc.constantFrom<OwnField>("permutation", "groupOf")),
      { maxLength: 3 },
    );
    const cuts = fc.constantFrom<readonly number[]>([2, 2], [1, 3], [1, 1, 2], [1, 1, 1, 1], [2, 0, 2]);
    fc.assert(
      fc.property(others, cuts, fc.integer({ min: 2, max: 8 }), (found, stages, rows) => {
        const loaded = (layer: PlacedLayer) => {
          for (const [index, part, field] of found) odd(index, part, field)(layer);
        };
        // Where there may be an order the checkpoint says so, and what a graph takes is planned for it.
        const model = { format: { ...gptq4, gIdx: true } };
        const recorded = record({ rows, stages, loaded, model });
        const uncut = record({ rows, loaded, model });
        expect(kernelOfLinears(recorded)).toEqual(kernelOfLinears(uncut));
        expect(begunAnew(recorded)).toEqual(begunAnew(uncut));
        for (const { spec, stage, calls } of recorded) {
          const planned = stage.layers.map((layer) => capturedSize.layer(spec, layer.spec, { ...RUN, maxSequences: rows }));
          expect(capturedBytes(calls.length)).toBeLessThanOrEqual(planned.reduce((sum, bytes) => sum + bytes, capturedBytes(2)));
        }
      }),
      { numRuns: 100 },
    );
  });
});

/** By linear, the kernels that are given its weights, once each. */
function kernelOfLinears(stages: readonly Recorded[]): Record<string, string[]> {
  return Object.fromEntries(
    stages.flatMap(({ stage, calls }) => {
      const given = calls.map(({ name, parameters }) => ({ name, values: pointersOf(parameters) }));
      return stage.layers.flatMap((layer) =>
        PARTS.map((part): [string, string[]] => [
          `${layer.spec.index}.${part}`,
          given.filter(({ values }) => values.includes(layer[part].weights)).map(({ name }) => name),
        ]),
      );
    }),
  );
}

/** Layers ahead of whose first or second norm there is nothing to carry. */
function begunAnew(stages: readonly Recorded[]): string[] {
  return stages.flatMap(({ stage, calls }) => {
    const begins = calls
      .filter(({ name }) => name === "rms_norm_deferred")
      .map((call) => fieldsOf(call, DEFERRED_NORM_LAUNCH, 0));
    const anew = begins.filter(({ own }) => own === 1).map(({ weight }) => weight);
    return stage.layers.flatMap(({ spec, norms }) =>
      (["input", "postAttention"] as const)
        .filter((place) => anew.includes(norms[place]))
        .map((place) => `${spec.index} ${place}`),
    );
  });
}

const pointersOf = (parameters: Uint8Array, at = 0, count = Math.floor((parameters.length - at) / 8)) => [
  ...new BigUint64Array(parameters.slice(at, at + 8 * count).buffer),
];
const fieldsAt = 4 * CHAIN_SHAPE.bytes;
const layersAt = fieldsAt + CHAIN_ROWS.bytes;

function fieldsOf(
  { parameters }: KernelCall,
  { places }: ParameterLayout = CHAIN_ROWS,
  offset = fieldsAt,
): Record<string, bigint | number> {
  const view = new DataView(parameters.buffer, parameters.byteOffset + offset);
  return Object.fromEntries(
    places.map(({ name, kind, at }) => [
      name,
      kind === "u64" ? view.getBigUint64(at, true) : kind === "f32" ? view.getFloat32(at, true) : view.getInt32(at, true),
    ]),
  );
}

/** Factors of a layer's first norm, and of its second, which cross with the residual stream. */
const factorsOf = (stage: Stage, rows: number) => ({
  first: stage.at("scratch.deferred") + BigInt(deferredScratchBytes(HIDDEN) - 64),
  second: stage.at("scratch.residual") + BigInt(rows * HIDDEN * 4),
});

describe("a link of few tokens", () => {
  const rows = 6;
  const [{ stage, calls }] = record({ rows }) as [Recorded];
  const links = linksOf(calls);
  const [layer, next] = stage.layers as [PlacedLayer, PlacedLayer];
  const bytesOf = (parts: readonly Part[], of: PlacedLayer) => parts.reduce((sum, part) => sum + of[part].weightBytes, 0);

  it("has all blocks run at once, and says what they read", () => {
    const launch = chainRowsLaunch(chainRowsShape(layer.spec)!, HOPPER)!;
    const { name, block, shared } = launch;
    for (const call of links) expect(call).toMatchObject({ name, grid: [132], block, together: true });
    expect(links[1]).toMatchObject({
      shared,
      bytes: bytesOf(["o", "gate", "up", "down"], layer) + bytesOf(["q", "k", "v"], next),
    });
    expect(links[0]!.bytes).toBe(bytesOf(["q", "k", "v"], layer));
    expect(links.at(-1)!.bytes).toBe(bytesOf(["o", "gate", "up", "down"], layer));
  });

  it("reads what attention has left and writes where the next one reads", () => {
    const block = stage.at("scratch.block");
    const q = BigInt(rows * HIDDEN * 2);
    const places = chainRowsLayout(stage.layers.map(({ spec }) => spec))!;
    const at = (offset: number) => stage.at("scratch.chainRows") + BigInt(offset);
    const { second, first } = factorsOf(stage, rows);
    expect(fieldsOf(links[1]!)).toMatchObject({
      ...{ residual: stage.at("scratch.residual"), attention: block, y0: block, y1: block + q, y2: block + 2n * q },
      ...{ carried: first, left: first, normed: at(places.normed), squares: at(places.squares) },
      ...{
        gated: at(places.gated),
        pieces: at(places.pieces),
        epochs: at(places.epochs),
        eps: Math.fround(1e-5),
        m: rows,
        firstLink: 0,
        layers: 2,
      },
    });
    expect(second).not.toBe(first);
    const attention = calls.find(({ role }) => role === "attention")!;
    expect(pointersOf(attention.parameters)).toEqual(expect.arrayContaining([block, block + q, block + 2n * q]));
    expect(pointersOf(links[1]!.parameters, layersAt, 7)).toEqual(
      (["o", "gate", "up", "down", "q", "k", "v"] as const).map((part) => layer[part].weights),
    );
    expect(pointersOf(links[1]!.parameters, layersAt + CHAIN_LAYER.bytes, 7)[4]).toBe(next.q.weights);
  });

  it("hands factors on: those of a layer's first norm to its second, those of the second to the next layer, across stages, too", () => {
    const stages = record({ rows, stages: [2, 2] });
    const told = stages.map((each) =>
      linksOf(each.calls).map((call) => {
        const { first, second } = factorsOf(each.stage, rows);
        const name = (at: unknown) => (at === first ? "first" : at === second ? "second" : at);
        const { carried, left, firstLink, layers } = fieldsOf(call);
        return [firstLink, layers, name(carried), name(left)];
      }),
    );
    const each = [
      [-1, 1, "second", "first"],
      [0, 2, "first", "first"],
      [0, 1, "first", "second"],
    ];
    expect(told).toEqual([each, each]);
  });

  it("begins the model with each token's own factor", () => {
    const [begin, ...others] = calls.filter(({ name }) => name === "rms_norm_deferred");
    expect(others).toEqual([]);
    expect(fieldsOf(begin!, DEFERRED_NORM_LAUNCH, 0)).toMatchObject({
      ...{ residual: stage.at("scratch.residual"), weight: layer.norms.input, carried: factorsOf(stage, rows).second },
      ...{ hidden: HIDDEN, places: 8, own: 1 },
    });
    expect(begin!.grid).toEqual([rows]);
  });

  it("does so also where no other norm is put off", () => {
    const begin = record({ rows: 2 })[0]!.calls.find(({ name }) => name === "rms_norm_deferred")!;
    expect(fieldsOf(begin, DEFERRED_NORM_LAUNCH, 0)).toMatchObject({ places: 8, own: 1 });
  });
});

describe("what the plan has for it", () => {
  const region = (name: string, model: Partial<Shape> = {}, run: { maxSequences: number; prefillChunk: number } = RUN) => {
    const spec = makeSpec({ ...llama7b, layers: 2, ...model });
    return new RegionIndex(layout(spec, { first: 0, count: 2 }, { ...RUN, ...run }, cudaPacking)).find(name);
  };

  it("is as large as the largest of its layers wants, a few bytes for each value", () => {
    const { layers } = makeSpec({ ...llama7b, layers: 2 });
    const { bytes, ...at } = chainRowsLayout(layers)!;
    expect(region("scratch.chainRows")!.bytes).toBe(bytes);
    expect(bytes).toBeLessThanOrEqual(16 * (4096 + 11008) + (2 + 128) * 4096 + 4096 + 5 * 256);
    expect(Object.values(at).filter((offset) => offset % 256 !== 0)).toEqual([]);
  });

  it.each<[string, Partial<Shape>]>([
    ["plain weights", { format: plain16 }],
    ["8 bits", { format: { ...gptq4, bits: 8 } }],
    ["experts", { experts: 4 }],
    ["layers of several widths", { intermediate: [11008, 12288] }],
    ["a narrow MLP", { intermediate: 3968 }],
  ])("is nothing with %s", (_, model) => {
    expect(region("scratch.chainRows", model)).toBeNull();
  });

  it("is there where only the contents show that inputs are in their own order after all", () => {
    expect(region("scratch.chainRows", { format: { ...gptq4, gIdx: true } })).not.toBeNull();
  });

  it("is there for steps of two tokens, factors included, and not where there is but one", () => {
    const two = { maxSequences: 2, prefillChunk: 1 };
    expect(region("scratch.pieces", {}, two)).toBeNull();
    expect(region("scratch.chainRows", {}, two)).not.toBeNull();
    expect(region("scratch.deferred", {}, two)!.bytes).toBe(deferredScratchBytes(HIDDEN));
    const one = { maxSequences: 1, prefillChunk: 1 };
    expect([region("scratch.chainRows", {}, one), region("scratch.deferred", {}, one)]).toEqual([null, null]);
  });
});
