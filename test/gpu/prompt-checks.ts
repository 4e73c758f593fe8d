// The linears of whole prompts that unpack their weights inside the product: against the reference kernels on awkward
// shapes, the same bits from every tile, grid and replay, then their speed beside slabs of expanded weights. Runs on a machine
// with a GPU: `node dist/gpu/prompt-checks.js [check] [7b] [13b] [512] [widths] [--images=folder]`.

import { randomFillSync } from "node:crypto";
import { DeviceContext } from "../../src/backend/cuda/cards/device-context.js";
import { CudaDriver } from "../../src/backend/cuda/driver/driver.js";
import { loadCuda } from "../../src/backend/cuda/driver/load.js";
import { writeParameters } from "../../src/backend/cuda/launch/parameter-layout.js";
import { type GemmCard, gemmLaunch, hasWgmma } from "../../src/backend/cuda/linears/gemm-launch.js";
import { EXPAND, HALF_LINEAR, LINEAR } from "../../src/backend/cuda/linears/linear-layouts.js";
import {
  PROMPT_TOKENS,
  type PromptLaunch,
  type PromptShape,
  promptLaunch,
  promptLaunchOf,
} from "../../src/backend/cuda/linears/prompt-launch.js";
import { gemmParameters, type PromptValues, promptParameters } from "../../src/backend/cuda/linears/tensor-map.js";
import { SILU_MUL } from "../../src/backend/cuda/steps/pointwise-layouts.js";
import {
  type KernelGroup,
  SUPERBLOCK,
  superblockBytes,
  TILE_ROWS,
  tileBytes,
} from "../../src/backend/cuda/weights/quantized-layout.js";
import { fromHalfBits, toHalfBits } from "../support/element-types.js";
import { KernelBench } from "./kernel-bench.js";

/** What is launched: linears of one x, results right behind each other. */
interface Call extends PromptValues {
  readonly shape: PromptShape;
}

class PromptChecks {
  readonly #bench: KernelBench;
  readonly #gpu: DeviceContext;
  readonly #card: GemmCard;

  constructor(gpu: DeviceContext) {
    this.#bench = new KernelBench(gpu);
    this.#gpu = gpu;
    this.#card = gpu.card;
  }

  get failures(): number {
    return this.#bench.failures;
  }

  check(): void {
    for (const [rows, outputs, inputs, group, form] of [
      [1, [128], 128, 128, 0],
      [257, [40], 256, 64, 1],
      [300, [200], 384, 32, 2],
      [130, [136, 64, 72], 1152, 128, 0],
      [513, [384, 128, 128], 1024, 64, 0],
      [241, [520], 2176, 128, 2],
      [1000, [264], 1280, 32, 0],
      [1920, [256], 4096, 128, 1],
      [700, [1024], 128, 128, 2],
    ] as const)
      this.#checkShape({ rows, outputs, inputs, group, silu: false }, form);
    for (const [rows, n, inputs, group] of [
      [300, 64, 128, 128],
      [513, 200, 1152, 64],
      [257, 1000, 256, 32],
      [1920, 264, 1024, 128],
    ] as const)
      this.#checkShape({ rows, outputs: [n, n], inputs, group, silu: true }, 0);
    this.#checkChain();
  }

  #checkShape(shape: PromptShape, form: 0 | 1 | 2): void {
    const { rows, outputs, inputs, group, silu } = shape;
    const bench = this.#bench;
    const total = rows * (silu ? outputs[0]! : outputs.reduce((sum, n) => sum + n, 0));
    const x = bench.halves(rows * inputs, 0.5);
    const bytes = total * (form === 0 ? 2 : 4);
    const y = this.#gpu.allocate(bytes + 4096);
    const before = bench.upload(Float32Array.from({ length: total }, (_, i) => (i % 37) / 37));
    const weights = outputs.map((n) => this.#weights(group, inputs, n, silu ? 0.02 : 0.08));
    const biases = outputs.map((n, i) => (rows % 2 === i % 2 ? bench.halves(n + (n % 2), 0.5) : 0n));
    let at = y;
    const linears = outputs.map((n, i) => {
      const linear = { weights: weights[i]!, bias: biases[i]!, outputs: n, y: at };
      at += BigInt(rows * n * (form === 0 ? 2 : 4));
      return linear;
    });
    const call: Call = { x, rows, inputs, form, silu, linears, shape };
    const read = () => {
      const words = bench.download(y, Math.ceil(bytes / 4) + 8);
      const guard = words.subarray(Math.ceil(bytes / 4));
      if (guard.some((value) => !Number.isNaN(value))) bench.fail(`${name(shape)}: wrote behind y`);
      if (form !== 0) return words.slice(0, total);
      return Float32Array.from(new Uint16Array(words.buffer).subarray(0, total), fromHalfBits);
    };
    const prepare = () => {
      this.#gpu.fill(y, 0xff, bytes + 4096);
      if (form === 2) this.#gpu.copyInside(y, before, total * 4);
    };
    const plain = this.#reference(call, "quantized");
    const truth = this.#reference(call, "half");
    prepare();
    this.#slabs(call);
    const slabs = read();
    let first: Float32Array | undefined;
    for (const tokens of PROMPT_TOKENS) {
      const launch = promptLaunchOf(this.#card, shape, tokens);
      for (const grid of [launch.grid, [3] as const]) {
        const what = `${launch.name} ${name(shape)} form ${form} on ${grid[0]}`;
        prepare();
        this.#launch({ ...launch, grid }, call);
        const got = read();
        const add = form === 2 ? (i: number) => (i % 37) / 37 : () => 0;
        bench.compare(
          what,
          got,
          truth.map((value, i) => value + add(i)),
          (form ? 1e-4 : 2e-2) * Math.sqrt(Math.max(1, inputs / 64)) * (silu ? 4 : 1) + truncated(inputs),
        );
        bench.compare(
          `${what}, unrounded weights`,
          got,
          plain.map((value, i) => value + add(i)),
          (form ? 6e-4 : 2e-2) * Math.sqrt(inputs) * (silu ? 4 : 1),
        );
        if (first) bench.same(`${what}: against the first`, got, first);
        first ??= got;
      }
    }
    const different = slabs.reduce((count, value, i) => count + (Object.is(value, first![i]) ? 0 : 1), 0);
    console.log(`${name(shape)} form ${form}: ${different} of ${total} numbers differ from those of slabs`);
    bench.free(x, y, before, ...weights, ...biases);
  }

  /** Launches of different shapes close behind each other, over and over: the same bits. */
  #checkChain(): void {
    const bench = this.#bench;
    const [rows, hidden, inner] = [520, 512, 1408];
    const group = 128;
    const x = bench.halves(rows * hidden, 0.5);
    const residual = this.#gpu.allocate(rows * hidden * 4);
    const block = this.#gpu.allocate(rows * (hidden * 3 + inner * 2) * 2);
    const [qkv, o, gate, up, down] = [
      [hidden, hidden, hidden].map((n) => this.#weights(group, hidden, n, 0.02)),
      this.#weights(group, hidden, hidden, 0.02),
      this.#weights(group, hidden, inner, 0.02),
      this.#weights(group, hidden, inner, 0.02),
      this.#weights(group, inner, hidden, 0.02),
    ] as const;
    const q = (i: number) => block + BigInt(i * rows * hidden * 2);
    const gated = block + BigInt(3 * rows * hidden * 2);
    const calls: Call[] = [
      this.#call(
        x,
        { rows, inputs: hidden, outputs: [hidden, hidden, hidden], group, silu: false },
        0,
        qkv.map((weights, i) => [weights, q(i)]),
      ),
      this.#call(q(0), { rows, inputs: hidden, outputs: [hidden], group, silu: false }, 2, [[o, residual]]),
      this.#call(q(1), { rows, inputs: hidden, outputs: [inner, inner], group, silu: true }, 0, [
        [gate, gated],
        [up, 0n],
      ]),
      this.#call(gated, { rows, inputs: inner, outputs: [hidden], group, silu: false }, 2, [[down, residual]]),
    ];
    const graph = bench.captured(12, (i) =>
      this.#launch(promptLaunchOf(this.#card, calls[i % 4]!.shape, PROMPT_TOKENS[(i >> 1) % 4]!), calls[i % 4]!),
    );
    let first: Float32Array | undefined;
    for (let round = 0; round < 200; round++) {
      this.#gpu.fill(residual, 0, rows * hidden * 4);
      this.#gpu.launchGraph(graph);
      const got = bench.download(residual, rows * hidden);
      if (got.some((value) => !Number.isFinite(value))) bench.fail("chain: not finite");
      if (first) bench.same(`chain, replay ${round}`, got, first);
      first ??= got;
    }
    console.log("chain of 12 launches, replayed 200 times");
  }

  #call(x: bigint, shape: PromptShape, form: 0 | 1 | 2, linears: readonly (readonly [weights: bigint, y: bigint])[]): Call {
    const { rows, inputs, outputs, silu } = shape;
    return {
      x,
      rows,
      inputs,
      form,
      silu,
      shape,
      linears: linears.map(([weights, y], i) => ({ weights, bias: 0n, outputs: outputs[i]!, y })),
    };
  }

  #launch({ tokens, piece, ...launch }: PromptLaunch, call: Call): void {
    const parameters = promptParameters(this.#gpu.driver, { tokens, piece }, call);
    this.#bench.launch({ family: "linear_prompt", ...launch, parameters });
  }

  /** In plain f32, from the weights as they are stored or as slabs have them; gated in f16 as the kernels do. */
  #reference({ x, rows, inputs, silu, linears, shape: { group } }: Call, from: "quantized" | "half"): Float32Array {
    const bench = this.#bench;
    const parts = linears.map(({ weights, bias, outputs }) => {
      const y = this.#gpu.allocate(rows * outputs * 4);
      const grid = [Math.ceil(outputs / 256), rows] as const;
      const shared = { x, bias, residual: 0n, y, m: rows, n: outputs, k: inputs, ldx: inputs, ldy: outputs, yIsF32: 1 };
      if (from === "quantized") {
        const parameters = writeParameters(LINEAR, { ...shared, weights, permutation: 0n, kValid: inputs, zeroOffset: 0 });
        bench.launch({ family: "linear_quantized", name: `linear_q4_g${group}_ref`, grid, block: 256, parameters });
      } else {
        const expanded = this.#gpu.allocate(roundUp(outputs, 16) * inputs * 2);
        this.#expand(group, inputs, outputs, weights, expanded);
        const parameters = writeParameters(HALF_LINEAR, { ...shared, weights: expanded });
        bench.launch({ family: "linear_half", name: "linear_half_ref", grid, block: 256, parameters });
        this.#gpu.synchronize();
        bench.free(expanded);
      }
      const part = bench.download(y, rows * outputs);
      bench.free(y);
      return part;
    });
    if (silu) {
      const half = (value: number) => fromHalfBits(toHalfBits(value));
      return parts[0]!.map((value, i) => (half(value) / (1 + Math.exp(-half(value)))) * half(parts[1]![i]!));
    }
    const all = new Float32Array(parts.reduce((sum, part) => sum + part.length, 0));
    let at = 0;
    for (const part of parts) {
      all.set(part, at);
      at += part.length;
    }
    return all;
  }

  /** The same by slabs of expanded weights; gate and up beside each other where silu. */
  #slabs({ x, rows, inputs, form, silu, linears, shape: { group } }: Call, expanded = 0n): void {
    const buffer = expanded || this.#gpu.allocate(Math.max(...linears.map(({ outputs }) => roundUp(outputs, 16))) * inputs * 2);
    const apart = silu ? linears.map(({ outputs }) => this.#gpu.allocate(rows * outputs * 2)) : null;
    linears.forEach(({ weights, bias, outputs, y: at }, i) => {
      const y = apart ? apart[i]! : at;
      this.#expand(group, inputs, outputs, weights, buffer);
      const launch = gemmLaunch(this.#card, { m: rows, n: outputs });
      const values = {
        weights: buffer,
        x,
        bias,
        residual: form === 2 ? y : 0n,
        y,
        m: rows,
        n: outputs,
        k: inputs,
        ldx: inputs,
        ldy: outputs,
      };
      const parameters = gemmParameters(this.#gpu.driver, launch, { ...values, yIsF32: form ? 1 : 0 });
      this.#bench.launch({ family: "linear_half", ...launch, parameters });
    });
    if (apart) this.#silu(apart[0]!, apart[1]!, linears[0]!.y, rows * linears[0]!.outputs);
    if (expanded === 0n) {
      this.#gpu.synchronize();
      this.#bench.free(buffer, ...(apart ?? []));
    }
  }

  #silu(gate: bigint, up: bigint, y: bigint, count: number): void {
    const parameters = writeParameters(SILU_MUL, { gate, up, y, count: BigInt(count) });
    const grid = [Math.max(1, Math.min(4096, Math.ceil(count / 8 / 256)))] as const;
    this.#bench.launch({ family: "pointwise", name: "silu_mul", grid, block: 256, parameters });
  }

  #expand(group: KernelGroup, inputs: number, outputs: number, weights: bigint, expanded: bigint): void {
    const tiles = Math.ceil(outputs / TILE_ROWS);
    this.#bench.launch({
      family: "linear_half",
      name: `expand_q4_g${group}`,
      grid: [Math.ceil(inputs / 512), tiles],
      block: 256,
      parameters: writeParameters(EXPAND, {
        weights,
        expanded,
        firstTile: 0,
        tiles,
        k: inputs,
        ld: inputs,
        zeroOffset: 0,
        unused: 0,
      }),
    });
  }

  /** Of random codes and zeros, scales around `scale`. */
  #weights(group: KernelGroup, inputs: number, outputs: number, scale: number, copies = 1): bigint {
    const tile = tileBytes(4, group, inputs);
    const data = new Uint8Array(Math.ceil(outputs / TILE_ROWS) * tile);
    randomFillSync(data);
    const scales = Array.from({ length: 16 }, (_, i) => toHalfBits(scale * (0.5 + ((i * 7) % 16) / 16)));
    const view = new DataView(data.buffer);
    for (let begin = 0; begin < data.length; begin += tile)
      for (let k = 0, at = begin; k < inputs; k += SUPERBLOCK) {
        const size = Math.min(SUPERBLOCK, inputs - k);
        const table = at + (size * TILE_ROWS) / 2;
        for (let i = 0; i < Math.ceil(size / group) * TILE_ROWS; i++)
          view.setUint16(table + 2 * i, scales[(i + begin / tile) % 16]!, true);
        at += superblockBytes(4, group, size);
      }
    const at = this.#gpu.allocate(data.length * copies);
    for (let copy = 0; copy < copies; copy++) this.#gpu.copyIn(at + BigInt(copy * data.length), data);
    this.#gpu.synchronize();
    return at;
  }

  /** µs of the linears of a layer as a step has them: q, k, v in one; o and down added to the residual stream; gate and up gated. */
  time(model: string, hidden: number, inner: number, rows: number, widths: boolean): void {
    const group = 128;
    const bench = this.#bench;
    const copies = Math.ceil(120e6 / (hidden * inner * 0.52));
    const x = bench.halves(rows * inner, 1);
    const y = this.#gpu.allocate(rows * inner * 4);
    const expanded = this.#gpu.allocate(inner * hidden * 2);
    const parts = [
      ["qkv", [hidden, hidden, hidden], hidden, 0, false],
      ["o", [hidden], hidden, 2, false],
      ["o f16", [hidden], hidden, 0, false],
      ["gate-up", [inner, inner], hidden, 0, true],
      ["gate, up", [inner, inner], hidden, 0, false],
      ["down", [hidden], inner, 2, false],
      ["down f16", [hidden], inner, 0, false],
    ] as const;
    for (const [what, outputs, inputs, form, silu] of parts) {
      const shape: PromptShape = { rows, inputs, outputs, group, silu };
      const bytes = (outputs[0] / TILE_ROWS) * tileBytes(4, group, inputs);
      const weights = this.#weights(group, inputs, outputs[0], 0.004, copies);
      const out = (i: number) => y + BigInt((i % 2) * rows * outputs[0] * 2);
      const call = (i: number) =>
        this.#call(
          x,
          shape,
          form,
          outputs.map((_, j) => [weights + BigInt(((i + j) % copies) * bytes), form === 2 ? y : out(j)]),
        );
      const flops = 2 * rows * inputs * outputs.reduce((sum: number, n) => sum + n, 0);
      const speed = (ms: number) => `${(ms * 1e3).toFixed(0)} us ${(flops / ms / 1e9).toFixed(0)}`;
      const chosen = promptLaunch(this.#card, shape);
      const tokens = widths ? PROMPT_TOKENS : [chosen.tokens];
      const times = tokens.map((width) => {
        const launch = promptLaunchOf(this.#card, shape, width);
        return `${width === chosen.tokens ? "*" : ""}t${width} ${speed(bench.timedGraph(12, (i) => this.#launch(launch, call(i))))}`;
      });
      const slabs = bench.timedGraph(12, (i) => {
        this.#slabs({ ...call(i), silu: false }, expanded);
        if (silu) this.#silu(out(0), out(1), out(0), rows * outputs[0]);
      });
      console.log(`${model} ${rows} ${what.padEnd(9)} ${times.join("  ").padEnd(20)}  slabs ${speed(slabs)} TFLOP/s`);
      bench.free(weights);
    }
    bench.free(x, y, expanded);
  }
}

function name({ rows, outputs, inputs, group, silu }: PromptShape): string {
  return `${rows} x ${outputs.join("+")} x ${inputs} g${group}${silu ? " silu" : ""}`;
}

/**
 * What the tensor cores' sums lose: each of inputs / 16 steps rounds towards zero, of sums up to five deviations, which are a
 * quarter of √inputs here.
 */
function truncated(inputs: number): number {
  return 2 ** -23 * (inputs / 16) * 1.25 * Math.sqrt(inputs);
}

function roundUp(value: number, to: number): number {
  return Math.ceil(value / to) * to;
}

function main(): void {
  const driver = new CudaDriver(loadCuda());
  driver.call("cuInit", [0]);
  const asked = process.argv.slice(2);
  const images = asked.find((argument) => argument.startsWith("--images="))?.slice("--images=".length);
  const gpu = DeviceContext.open(
    driver,
    driver.i32("cuDeviceGet", [0]),
    "cuda:0",
    images === undefined ? undefined : { folder: images, card: { major: 9, minor: 0, sharedPerBlock: 232448 } },
  );
  if (!hasWgmma(gpu.card)) throw new Error("these kernels are Hopper's");
  const checks = new PromptChecks(gpu);
  if (asked.includes("check")) {
    checks.check();
    console.log(checks.failures === 0 ? "all kernels agree" : `${checks.failures} checks FAILED`);
  }
  const widths = asked.includes("widths");
  if (asked.includes("7b")) checks.time("7b", 4096, 11008, 1920, widths);
  if (asked.includes("13b")) checks.time("13b", 5120, 13824, 1920, widths);
  if (asked.includes("512")) checks.time("7b", 4096, 11008, 512, widths);
  gpu.close();
  process.exit(checks.failures === 0 ? 0 : 1);
}

main();
