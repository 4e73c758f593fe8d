import { execFileSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { Worker } from "node:worker_threads";
import { beforeAll, describe, expect, it } from "vitest";
import {
  cutInputs,
  type Meaning,
  makeGptq,
  makePlain,
  randomNumbers,
  referenceLinear,
  storedOrder,
  TensorStore,
} from "../../../test/support/quantized.js";
import type { GptqFormat, LinearSpec, PlainFormat } from "../../model/spec.js";
import { distFile, packageRoot } from "../../paths.js";
import { TensorContentsError } from "../errors.js";
import { NonFiniteTensorError } from "./errors.js";
import { instantiate } from "./kernels.js";
import type { QuantizedKernels } from "./quantized-kernels.js";
import { activationBytes, quantizedLayout, quantizedRegions } from "./quantized-layout.js";
import { type PackedFacts, QuantizedLinear, type QuantizedPlace } from "./quantized-linear.js";
import { LinearPacker, runPack } from "./quantized-packer.js";
import { packingStagingBytes } from "./quantized-staging.js";
import { withRelaxedSimd } from "./relaxed-simd.js";
import { DOT_FROM_V8 } from "./wasm-module.js";
import { compileWide, hasWideSimd } from "./wide-simd.js";

interface Build {
  name: string;
  kernels: QuantizedKernels;
}

const memory = new WebAssembly.Memory({ initial: 512, maximum: 512, shared: true });
const builds: Build[] = [];
/** Earlier engines compile the instruction of the dot build wrongly; loadKernelModules() never chooses it there. */
const hasDot = Number.parseInt(process.versions.v8, 10) >= DOT_FROM_V8;
/** On a processor with AVX2; V8 itself looks at the processor, and joins nothing on another. */
const hasWide = hasWideSimd(process.versions.v8, new Set(["avx2"]));
let relaxedModule: WebAssembly.Module;

beforeAll(() => {
  if (!existsSync(distFile("wasm/kernels-simd.wasm")))
    execFileSync(process.execPath, [join(packageRoot, "scripts/build-wasm.js")]);
  const file = (name: string) => readFileSync(distFile(`wasm/${name}.wasm`));
  relaxedModule = withRelaxedSimd(() => new WebAssembly.Module(file("kernels-relaxed")));
  const build = (name: string, kernels: WebAssembly.Module, products: WebAssembly.Module | null = null) =>
    builds.push({ name, kernels: instantiate({ kernels, products }, memory) });
  build("plain", new WebAssembly.Module(file("kernels-simd")));
  build("relaxed", relaxedModule);
  if (hasDot) build("dot", relaxedModule, new WebAssembly.Module(file("products-dot")));
  if (hasWide) build("wide relaxed", relaxedModule, compileWide(file("products-relaxed")));
  if (hasWide) build("wide dot", relaxedModule, compileWide(file("products-dot")));
});

/** Gives out pieces of the memory, each between guard bytes that `check` looks at. */
class Places {
  #next = 1 << 16;
  readonly #guards: number[] = [];
  take(bytes: number): number {
    const at = this.#next + 64;
    this.#next = Math.ceil((at + bytes) / 64) * 64;
    const guards = new Uint8Array(memory.buffer);
    guards.fill(0xa5, at - 64, at);
    guards.fill(0xa5, at + bytes, at + bytes + 64);
    guards.fill(0, at, at + bytes);
    this.#guards.push(at - 64, at + bytes);
    this.#next = at + Math.ceil(bytes / 64) * 64 + 64;
    return at;
  }
  check(): void {
    const bytes = new Uint8Array(memory.buffer);
    for (const at of this.#guards)
      for (let i = 0; i < 64; i++) if (bytes[at + i] !== 0xa5) throw new Error(`byte ${at + i} written`);
  }
}

interface Packed {
  place: QuantizedPlace;
  facts: PackedFacts;
}

function pack(
  kernels: QuantizedKernels,
  spec: LinearSpec,
  store: TensorStore,
  places: Places,
  staging = packingStagingBytes(spec),
  shares = 1,
): Packed {
  const place = { weights: 0, permutation: 0, bias: 0 };
  for (const { name, bytes } of quantizedRegions(spec)) place[name] = places.take(bytes);
  const packer = new LinearPacker(kernels, memory, spec, place, { offset: places.take(staging), bytes: staging }, store.tensors);
  for (const step of packer.steps()) {
    store.read(step.tensor, step.offset, new Uint8Array(memory.buffer, step.at, step.bytes));
    if (!step.command) continue;
    const { tileFrom, tileTo } = step;
    for (let share = shares - 1; share >= 0; share--) {
      const at = (i: number) => tileFrom + Math.floor(((tileTo - tileFrom) * i) / shares);
      packer.accept(step, runPack(kernels, step.command, at(share), at(share + 1)));
    }
  }
  return { place, facts: packer.finish() };
}

function run(
  linear: QuantizedLinear,
  x: Float32Array,
  m: number,
  places: Places,
  chunk = linear.tiles,
  add: Float32Array | null = null,
): Float32Array {
  const { spec } = linear;
  const input = places.take(x.byteLength);
  new Float32Array(memory.buffer, input, x.length).set(x);
  const activations = places.take(activationBytes(spec, m));
  const ldy = spec.out + 3;
  const y = places.take(m * ldy * 4);
  const view = new Float32Array(memory.buffer, y, m * ldy);
  view.fill(7);
  if (add) for (let t = 0; t < m; t++) view.set(add.subarray(t * spec.out, (t + 1) * spec.out), t * ldy);
  for (let row = m - 1; row >= 0; row--) linear.quantize(input, m, activations, row, row + 1);
  for (let tile = 0; tile < linear.tiles; tile += chunk)
    linear.apply(activations, m, y, ldy, tile, Math.min(linear.tiles, tile + chunk), add !== null);
  const result = new Float32Array(m * spec.out);
  for (let t = 0; t < m; t++) {
    result.set(view.subarray(t * ldy, t * ldy + spec.out), t * spec.out);
    expect([...view.subarray(t * ldy + spec.out, (t + 1) * ldy)]).toEqual([7, 7, 7]);
  }
  return result;
}

const gptq = (format: Partial<GptqFormat>): GptqFormat => ({
  kind: "gptq",
  bits: 4,
  groupSize: 128,
  zeros: "v1",
  gIdx: false,
  scaleDtype: "f16",
  ...format,
});
const linearSpec = (inputs: number, out: number, format: GptqFormat | PlainFormat, bias = false): LinearSpec => ({
  name: "l",
  in: inputs,
  out,
  bias,
  format,
});

function activations(random: () => number, m: number, inputs: number): Float32Array {
  // Outliers, an all-zero stretch, and magnitudes that differ from token to token.
  return Float32Array.from({ length: m * inputs }, (_, i) => (i % inputs < 8 ? 0 : (random() - 0.5) * 10 ** (random() * 3 - 1)));
}

function reference(spec: LinearSpec, meaning: Meaning, x: Float32Array, m: number): Float32Array {
  const layout = quantizedLayout(spec);
  const order = storedOrder(spec.in, meaning);
  return referenceLinear(
    x,
    m,
    spec,
    meaning,
    order,
    cutInputs(order, meaning, layout.blockSize, layout.form === "segments"),
    layout.activationLimit,
  );
}

function shuffledGroups(inputs: number, groupSize: number, random: () => number): Int32Array {
  const g = Int32Array.from({ length: inputs }, (_, k) => Math.floor(k / groupSize));
  for (let i = inputs - 1; i > 0; i--) {
    const j = Math.floor(random() * (i + 1));
    [g[i], g[j]] = [g[j]!, g[i]!];
  }
  return g;
}

it("all builds that this engine runs are tested", () => {
  // Every Node from 20 on has relaxed SIMD, behind a flag or not.
  const wide = hasWide ? ["wide relaxed", "wide dot"] : [];
  expect(builds.map(({ name }) => name)).toEqual(["plain", "relaxed", ...(hasDot ? ["dot"] : []), ...wide]);
});

describe("a packed GPTQ linear gives the reference's bits, in every build", () => {
  const cases: [
    title: string,
    inputs: number,
    out: number,
    format: Partial<GptqFormat>,
    order?: "act" | "random" | "zeros" | "sequential" | "gap",
  ][] = [
    ["4 bits, groups of 128", 512, 64, {}],
    ["4 bits, groups of 128, v2 zeros", 384, 48, { zeros: "v2" }],
    ["4 bits, groups of 64", 320, 32, { groupSize: 64 }],
    ["4 bits, groups of 32", 160, 32, { groupSize: 32 }],
    ["4 bits, groups of 256", 768, 32, { groupSize: 256 }],
    ["4 bits, groups of 96", 288, 32, { groupSize: 96 }],
    ["4 bits, one group", 352, 40, { groupSize: 352 }],
    ["4 bits, group larger than in", 200, 24, { groupSize: 1024 }],
    ["4 bits, in not a multiple of the group", 328, 24, { groupSize: 128 }],
    ["4 bits, out not a multiple of 16", 256, 40, {}],
    ["4 bits, one column of words", 128, 8, {}],
    ["4 bits, bf16 scales", 256, 32, { scaleDtype: "bf16" }],
    ["4 bits, f32 scales", 256, 32, { scaleDtype: "f32" }],
    ["4 bits, act-order", 512, 48, { gIdx: true }, "act"],
    ["4 bits, act-order, partial last group", 456, 24, { gIdx: true }, "act"],
    ["4 bits, sequential g_idx", 384, 32, { gIdx: true }, "sequential"],
    ["4 bits, g_idx all zeros", 384, 32, { gIdx: true }, "zeros"],
    ["4 bits, any g_idx", 384, 32, { gIdx: true }, "random"],
    ["4 bits, any g_idx, groups of 32", 256, 24, { gIdx: true, groupSize: 32 }, "random"],
    ["4 bits, g_idx in order with unequal groups", 384, 32, { gIdx: true }, "gap"],
    ["4 bits, groups of 8", 96, 32, { groupSize: 8 }],
    ["4 bits, groups of 16", 160, 32, { groupSize: 16 }],
    ["4 bits, groups of 24", 192, 32, { groupSize: 24 }],
    ["4 bits, groups of 40", 200, 24, { groupSize: 40 }],
    ["4 bits, groups of 100", 504, 32, { groupSize: 100, scaleDtype: "f32" }],
    ["4 bits, groups of 200", 600, 32, { groupSize: 200 }],
    ["4 bits, groups of 40, act-order", 200, 24, { groupSize: 40, gIdx: true }, "act"],
    ["4 bits, groups of 24, any g_idx", 192, 24, { groupSize: 24, gIdx: true }, "random"],
    ["2 bits", 256, 48, { bits: 2 }],
    ["2 bits, act-order, groups of 64", 256, 32, { bits: 2, groupSize: 64, gIdx: true }, "act"],
    ["3 bits", 256, 64, { bits: 3 }],
    ["3 bits, v2 zeros, groups of 32", 160, 32, { bits: 3, groupSize: 32, zeros: "v2" }],
    ["3 bits, act-order", 256, 32, { bits: 3, gIdx: true }, "act"],
    ["3 bits, groups of 40, any g_idx", 320, 32, { bits: 3, groupSize: 40, gIdx: true }, "random"],
    ["8 bits", 384, 48, { bits: 8 }],
    ["8 bits, out not a multiple of 16, v2 zeros", 256, 44, { bits: 8, zeros: "v2" }],
    ["8 bits, in not a multiple of the block", 212, 20, { bits: 8, groupSize: 212 }],
    ["8 bits, act-order, groups of 32", 256, 20, { bits: 8, groupSize: 32, gIdx: true }, "act"],
    ["8 bits, groups of 24", 120, 16, { bits: 8, groupSize: 24 }],
    ["8 bits, any g_idx", 256, 32, { bits: 8, gIdx: true, scaleDtype: "f32" }, "random"],
  ];

  it.each(cases)("%s", (_title, inputs, out, format, order) => {
    const spec = linearSpec(inputs, out, gptq(format), inputs % 3 === 0);
    const { groupSize } = spec.format as GptqFormat;
    const random = randomNumbers(inputs * 31 + out);
    const groups = Math.ceil(inputs / Math.min(inputs, groupSize));
    const gIdx = {
      act: () => shuffledGroups(inputs, groupSize, random),
      random: () => Int32Array.from({ length: inputs }, () => Math.floor(random() * groups)),
      zeros: () => new Int32Array(inputs),
      sequential: () => Int32Array.from({ length: inputs }, (_, k) => Math.floor(k / groupSize)),
      gap: () => Int32Array.from({ length: inputs }, (_, k) => (k < 37 ? 0 : groups - 1)),
    };
    const store = new TensorStore();
    const meaning = makeGptq(spec, store, random, order ? gIdx[order]() : null);
    const m = 7;
    const x = activations(random, m, inputs);
    const expected = reference(spec, meaning, x, m);
    for (const { kernels } of builds) {
      const places = new Places();
      const { place, facts } = pack(kernels, spec, store, places);
      const linear = new QuantizedLinear(kernels, memory, spec, place, facts);
      expect(run(linear, x, m, places)).toEqual(expected);
      expect(run(linear, x.subarray(0, inputs), 1, places, 1)).toEqual(expected.subarray(0, out));
      places.check();
    }
  });
});

describe("zeros that are all 8 are left out, and the bits are the reference's, in every build", () => {
  it.each<[title: string, inputs: number, out: number, format: Partial<GptqFormat>, order?: "act"]>([
    ["groups of 128", 512, 136, {}],
    ["v2 zeros, groups of 64", 320, 40, { groupSize: 64, zeros: "v2" }],
    ["groups of 32", 160, 24, { groupSize: 32 }],
    ["one group", 352, 40, { groupSize: 352 }],
    ["act-order", 512, 48, { gIdx: true }, "act"],
  ])("%s", (_title, inputs, out, format, order) => {
    const spec = linearSpec(inputs, out, gptq(format), inputs % 3 === 0);
    const random = randomNumbers(inputs + out);
    const store = new TensorStore();
    const gIdx = order ? shuffledGroups(inputs, (spec.format as GptqFormat).groupSize, random) : null;
    const meaning = makeGptq(spec, store, random, gIdx, true);
    const m = 7;
    const x = activations(random, m, inputs);
    const expected = reference(spec, meaning, x, m);
    for (const { kernels } of builds) {
      const places = new Places();
      const { place, facts } = pack(kernels, spec, store, places);
      expect(facts.symmetric).toBe(true);
      const linear = new QuantizedLinear(kernels, memory, spec, place, facts);
      expect(linear.tileBytes).toBe(linear.layout.blocks * (32 + linear.layout.blockSize * 8));
      expect(run(linear, x, m, places)).toEqual(expected);
      expect(run(linear, x.subarray(0, inputs), 1, places, 9)).toEqual(expected.subarray(0, out));
      places.check();
    }
  });

  it.each<[title: string, format: Partial<GptqFormat>]>([
    ["one of them is not", {}],
    ["there are f32 scales", { scaleDtype: "f32" }],
    ["they are of 3 bits", { bits: 3 }],
    ["groups are cut into segments", { groupSize: 40 }],
  ])("but not where %s", (title, format) => {
    const spec = linearSpec(320, 32, gptq(format));
    const store = new TensorStore();
    makeGptq(spec, store, randomNumbers(1), null, true);
    if (title === "one of them is not") store.change("l.qzeros", (bytes) => bytes.set([0x78], bytes.length - 1));
    expect(pack(builds[0]!.kernels, spec, store, new Places()).facts.symmetric).toBe(false);
  });
});

describe("a packed plain linear gives the reference's bits, in every build", () => {
  it.each([
    ["f16", 256, 48],
    ["bf16", 192, 33],
    ["f32", 128, 16],
    ["f16", 100, 50],
    ["f32", 37, 5],
    ["bf16", 61, 17],
    ["f16", 1, 1],
  ] as const)("%s, in %d, out %d", (dtype, inputs, out) => {
    const spec = linearSpec(inputs, out, { kind: "plain", dtype }, inputs % 2 === 0);
    const random = randomNumbers(inputs + out);
    const store = new TensorStore();
    const meaning = makePlain(spec, store, random, quantizedLayout(spec).blockSize);
    const m = 6;
    const x = activations(random, m, inputs);
    const expected = reference(spec, meaning, x, m);
    for (const { kernels } of builds) {
      const places = new Places();
      const { place, facts } = pack(kernels, spec, store, places);
      const linear = new QuantizedLinear(kernels, memory, spec, place, facts);
      expect(run(linear, x, m, places)).toEqual(expected);
      const at = places.take(inputs * 4);
      for (const row of [0, out - 1]) {
        linear.gatherRow(row, at);
        for (let k = 0; k < inputs; k++) {
          const group = meaning.group(k);
          const value = Math.fround((meaning.code(k, row) - 128) * meaning.scale(group, row));
          expect(new Float32Array(memory.buffer, at, inputs)[k]).toBe(value);
          expect(Math.abs(value - meaning.weight(k, row))).toBeLessThanOrEqual(meaning.scale(group, row) * 0.501);
        }
      }
      places.check();
    }
  });
});

describe("results do not depend on how the work is divided", () => {
  it.each([
    ["nibbles", gptq({})],
    ["symmetric", gptq({})],
    ["act-order", gptq({ gIdx: true, groupSize: 64 })],
    ["bytes", gptq({ bits: 8 })],
    ["segments", gptq({ groupSize: 40 })],
    ["plain", { kind: "plain", dtype: "f16" } as const],
  ])("%s: any batch, any chunk of tiles, any build", (title, format) => {
    const spec = linearSpec(256, 72, format, true);
    const random = randomNumbers(5);
    const store = new TensorStore();
    if (format.kind === "gptq") makeGptq(spec, store, random, shuffledGroups(256, 64, random), title === "symmetric");
    else makePlain(spec, store, random, 128);
    const x = activations(random, 70, spec.in);
    let all: Float32Array | null = null;
    for (const { kernels } of builds) {
      const weights = new Places();
      const { place, facts } = pack(kernels, spec, store, weights, packingStagingBytes(spec) * 3 + 100, 3);
      const linear = new QuantizedLinear(kernels, memory, spec, place, facts);
      all ??= run(linear, x, 70, weights);
      for (const m of [1, 2, 3, 4, 5, 8, 31, 32, 33, 63, 64, 65, 69, 70]) {
        const first = 70 - m;
        const part = run(linear, x.subarray(first * spec.in), m, weights, (m % 4) + 1);
        expect(part).toEqual(all.subarray(first * spec.out));
      }
    }
  });

  it.each([
    ["nibbles", gptq({}), 25],
    ["f32 scales", gptq({ scaleDtype: "f32" }), 25],
    ["groups of 32", gptq({ groupSize: 32 }), 25],
    ["symmetric", gptq({}), 25],
    ["bytes", gptq({ bits: 8 }), 25],
    ["plain", { kind: "plain", dtype: "f16" } as const, 24],
  ])("%s: one token, any number of tiles side by side, any build", (title, format, tiles) => {
    const spec = linearSpec(256, tiles * 16 + 8, format, true);
    const random = randomNumbers(7);
    const store = new TensorStore();
    const meaning =
      format.kind === "gptq"
        ? makeGptq(spec, store, random, null, title === "symmetric")
        : makePlain(spec, store, random, quantizedLayout(spec).blockSize);
    const x = activations(random, 1, spec.in);
    const expected = reference(spec, meaning, x, 1);
    for (const { kernels } of builds) {
      const places = new Places();
      const { place, facts } = pack(kernels, spec, store, places);
      const linear = new QuantizedLinear(kernels, memory, spec, place, facts);
      for (const chunk of [1, 7, 8, 9, 15, 16, 17, linear.tiles]) expect(run(linear, x, 1, places, chunk)).toEqual(expected);
      places.check();
    }
  });

  it.each([gptq({}), gptq({ bits: 8 })])("$bits bits: any number of threads at once", async (format) => {
    const spec = linearSpec(512, 1024, format);
    const random = randomNumbers(11);
    const store = new TensorStore();
    makeGptq(spec, store, random, null);
    const places = new Places();
    const { kernels } = builds.at(-1)!;
    const { place, facts } = pack(kernels, spec, store, places);
    const linear = new QuantizedLinear(kernels, memory, spec, place, facts);
    const m = 17;
    const x = activations(random, m, spec.in);
    const expected = run(linear, x, m, places);
    const input = places.take(x.byteLength);
    new Float32Array(memory.buffer, input, x.length).set(x);
    const buffer = places.take(activationBytes(spec, m));
    const rounds = 50;
    const roundBytes = m * spec.out * 4;
    const y = places.take(rounds * roundBytes);
    linear.quantize(input, m, buffer, 0, m);
    const { tileBytes, blocks, blockSize, tiles } = linear.layout;
    const head = [place.weights, tileBytes, blocks, blockSize, buffer, m, 0, y, spec.out, spec.out];
    const call = { kernel: format.bits === 8 ? "linear_bytes" : "linear_nibbles_f16", args: head };
    const threads = 4;
    const gate = new Int32Array(new SharedArrayBuffer(4));
    const program = `
      const { workerData: w } = require("node:worker_threads");
      const kernels = new WebAssembly.Instance(w.module, { env: { memory: w.memory } }).exports;
      // All begin together, or there would be nobody to get in the way of.
      const ready = Atomics.add(w.gate, 0, 1) + 1;
      if (ready === w.threads) Atomics.notify(w.gate, 0);
      for (let here = ready; here < w.threads; here = Atomics.load(w.gate, 0)) Atomics.wait(w.gate, 0, here, 100);
      for (let round = 0; round < w.rounds; round++) {
        for (let tile = w.index; tile < w.tiles; tile += w.threads) kernels[w.kernel](...w.args, tile, tile + 1, 0);
        w.args[7] += w.roundBytes;
      }`;
    await Promise.all(
      Array.from({ length: threads }, (_, index) => {
        const worker = new Worker(program, {
          eval: true,
          workerData: { module: relaxedModule, memory, index, threads, tiles, gate, rounds, roundBytes, ...call },
        });
        return new Promise((resolve, reject) => worker.once("exit", resolve).once("error", reject));
      }),
    );
    for (let round = 0; round < rounds; round++)
      expect(new Float32Array(memory.buffer, y + round * roundBytes, m * spec.out).slice()).toEqual(expected);
    places.check();
  });

  it("adds to what is there when asked", () => {
    for (const bits of [4, 8] as const)
      for (const m of [1, 5]) {
        const { kernels } = builds[0]!;
        const spec = linearSpec(128, 40, gptq({ bits }), true);
        const random = randomNumbers(9);
        const store = new TensorStore();
        makeGptq(spec, store, random, null);
        const places = new Places();
        const { place, facts } = pack(kernels, spec, store, places);
        const linear = new QuantizedLinear(kernels, memory, spec, place, facts);
        const x = activations(random, m, 128);
        const residual = activations(random, m, 40);
        const y = run(linear, x, m, places);
        expect(run(linear, x, m, places, 1, residual)).toEqual(y.map((value, i) => residual[i]! + value));
      }
  });
});

describe("inputs that are prepared in pieces", () => {
  it.each([
    [512, gptq({}), [256, 384]],
    [360, gptq({ groupSize: 24 * 15 }), [128]],
    [320, gptq({ groupSize: 64 }), [64, 128, 256]],
    [160, gptq({ groupSize: 32 }), [32, 96]],
    [384, gptq({ bits: 8 }), [128]],
  ])("are those that are prepared together: %d inputs", (inputs, format, cuts) => {
    const spec = linearSpec(inputs, 16, format);
    const random = randomNumbers(inputs);
    const store = new TensorStore();
    makeGptq(spec, store, random, null);
    const m = 3;
    for (const { kernels } of builds) {
      const places = new Places();
      const { place, facts } = pack(kernels, spec, store, places);
      const linear = new QuantizedLinear(kernels, memory, spec, place, facts);
      const x = places.take(m * inputs * 4);
      new Float32Array(memory.buffer, x, m * inputs).set(activations(random, m, inputs));
      const bytes = linear.inputBytes(m);
      const [together, pieces] = [places.take(bytes), places.take(bytes)];
      linear.quantize(x, m, together, 0, m);
      const ends = [...cuts, inputs];
      for (let row = m - 1; row >= 0; row--)
        ends.forEach((to, i) => {
          linear.quantizeInputs(x, m, pieces, row, ends[i - 1] ?? 0, to);
        });
      expect(new Uint8Array(memory.buffer, pieces, bytes)).toEqual(new Uint8Array(memory.buffer, together, bytes));
      expect(cuts.every((cut) => cut % linear.inputUnit! === 0)).toBe(true);
      places.check();
    }
  });

  it.each([
    ["act-order", gptq({ gIdx: true }), "act"],
    ["segments", gptq({ groupSize: 24 }), null],
  ] as const)("cannot be had of %s, which mixes inputs", (_title, format, order) => {
    const spec = linearSpec(384, 16, format);
    const random = randomNumbers(5);
    const store = new TensorStore();
    makeGptq(spec, store, random, order ? shuffledGroups(384, 128, random) : null);
    const [{ kernels }] = builds as [(typeof builds)[number]];
    const { place, facts } = pack(kernels, spec, store, new Places());
    expect(new QuantizedLinear(kernels, memory, spec, place, facts).inputUnit).toBe(null);
  });
});

describe("arithmetic", () => {
  it.each([4, 8] as const)("%d bits: whole numbers come out exact", (bits) => {
    const spec = linearSpec(256, 32, gptq({ bits, scaleDtype: "f32" }));
    const random = randomNumbers(3);
    const store = new TensorStore();
    const meaning = makeGptq(spec, store, random, null);
    store.add("l.scales", "F32", [2, 32], new Float32Array(64).fill(1));
    const limit = quantizedLayout(spec).activationLimit;
    const x = Float32Array.from({ length: 256 }, (_, k) => (k % 128 === 0 ? limit : Math.round((random() - 0.5) * 2 * limit)));
    const expected = Float32Array.from({ length: 32 }, (_, n) =>
      x.reduce((sum, value, k) => sum + value * (meaning.code(k, n) - meaning.zero(meaning.group(k), n)), 0),
    );
    for (const { kernels } of builds) {
      const places = new Places();
      const { place, facts } = pack(kernels, spec, store, places);
      const linear = new QuantizedLinear(kernels, memory, spec, place, facts);
      expect(run(linear, x, 1, places)).toEqual(expected);
    }
  });

  it.each([
    [4, "largest"],
    [4, "smallest"],
    [8, "largest"],
    [8, "smallest"],
  ] as const)("%d bits: the %s codes against the largest activations do not overflow", (bits, which) => {
    const out = 25 * 16; // sixteen tiles that are read side by side, eight, and one alone
    const spec = linearSpec(128, out, gptq({ bits, zeros: "v2", scaleDtype: "f32" }));
    const largest = which === "largest";
    const store = new TensorStore();
    store.add("l.qweight", "I32", [4 * bits, out], new Int32Array(4 * bits * out).fill(largest ? -1 : 0));
    const ones = bits === 4 ? 0x11111111 : 0x01010101;
    store.add("l.qzeros", "I32", [1, (out * bits) / 32], new Int32Array((out * bits) / 32).fill(ones));
    store.add("l.scales", "F32", [1, out], new Float32Array(out).fill(1));
    for (const sign of [1, -1])
      for (const m of [1, 6])
        for (const { kernels } of builds) {
          const places = new Places();
          const { place, facts } = pack(kernels, spec, store, places);
          const linear = new QuantizedLinear(kernels, memory, spec, place, facts);
          const limit = quantizedLayout(spec).activationLimit;
          const y = run(linear, new Float32Array(m * 128).fill(sign * limit), m, places);
          expect([...new Set(y)]).toEqual([sign * limit * 128 * (largest ? 2 ** bits - 2 : -1)]);
        }
  });

  it("NaN among the inputs of a token spoils its outputs only", () => {
    for (const { kernels } of builds) {
      const spec = linearSpec(128, 16, gptq({}));
      const random = randomNumbers(3);
      const store = new TensorStore();
      makeGptq(spec, store, random, null);
      const places = new Places();
      const { place, facts } = pack(kernels, spec, store, places);
      const linear = new QuantizedLinear(kernels, memory, spec, place, facts);
      const x = activations(random, 6, 128);
      x[2 * 128 + 60] = Number.NaN;
      const y = run(linear, x, 6, places);
      for (let i = 0; i < y.length; i++) expect(Number.isNaN(y[i]!)).toBe(Math.floor(i / 16) === 2);
    }
  });
});

describe("damaged contents are refused by name", () => {
  const spec = linearSpec(256, 32, gptq({ gIdx: true }), true);
  const make = () => {
    const store = new TensorStore();
    makeGptq(spec, store, randomNumbers(1), new Int32Array(256));
    return store;
  };
  const packing =
    (store: TensorStore, of = spec) =>
    () =>
      pack(builds[0]!.kernels, of, store, new Places(), packingStagingBytes(of), 2);

  it.each([0x7e00, 0x7c00, 0xfc00])("scales with bits %s", (bits) => {
    const store = make();
    const scales = new Uint16Array(64);
    scales[37] = bits;
    store.add("l.scales", "F16", [2, 32], scales);
    expect(packing(store)).toThrow(NonFiniteTensorError);
    expect(packing(store)).toThrow(/l\.scales .*value 37/);
  });
  it("NaN in a bias", () => {
    const store = make();
    store.add("l.bias", "BF16", [32], new Uint16Array(32).fill(0x7fc0));
    expect(packing(store)).toThrow(/l\.bias/);
  });
  it("a g_idx that names no group", () => {
    for (const group of [2, -1, 2 ** 30]) {
      const store = make();
      store.add("l.g_idx", "I32", [256], new Int32Array(256).fill(group));
      expect(packing(store)).toThrow(TensorContentsError);
    }
  });
  it("tensors that are missing or of another size", () => {
    const store = make();
    store.add("l.qzeros", "I32", [1, 4], new Int32Array(4));
    expect(packing(store)).toThrow(/l\.qzeros holds 16 bytes where the model needs 32/);
    store.tensors.delete("l.qzeros");
    expect(packing(store)).toThrow(/no tensor l\.qzeros/);
  });
  it.each(["f16", "bf16", "f32"] as const)("NaN in plain %s weights", (dtype) => {
    const plain = linearSpec(70, 20, { kind: "plain", dtype });
    const store = new TensorStore();
    makePlain(plain, store, randomNumbers(2), 128);
    const bits = dtype === "f32" ? new Uint32Array(1400) : new Uint16Array(1400);
    bits[19 * 70 + 69] = dtype === "f32" ? 0xff800000 : dtype === "f16" ? 0x7c01 : 0x7f80;
    store.add("l.weight", dtype === "f32" ? "F32" : dtype === "f16" ? "F16" : "BF16", [20, 70], bits);
    expect(packing(store, plain)).toThrow(/l\.weight .*value 1399/);
  });
});
