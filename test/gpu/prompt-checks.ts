// The linears of whole prompts that unpack their weights inside the product: against the reference kernels on awkward
// shapes, the same bits from every tile, grid and replay wherever k is cut alike, then their speed beside slabs of expanded weights, and
// of each cut of k. Runs on a machine with a GPU: `node dist/gpu/prompt-checks.js [check] [7b] [13b] [512] [widths] [cuts] [--images=folder]`.

import { DeviceContext } from "../../src/backend/cuda/cards/device-context.js";
import { CudaDriver } from "../../src/backend/cuda/driver/driver.js";
import { loadCuda } from "../../src/backend/cuda/driver/load.js";
import { hasWgmma } from "../../src/backend/cuda/linears/gemm-launch.js";
import {
  fitsCut,
  PROMPT_CUTS,
  PROMPT_TOKENS,
  type PromptShape,
  promptLaunchOf,
} from "../../src/backend/cuda/linears/prompt-launch.js";
import { fromHalfBits } from "../support/element-types.js";
import type { KernelBench } from "./kernel-bench.js";
import { PromptLinears, type PromptLinearsCall, promptCall } from "./prompt-linears.js";
import { timeCuts, timeLayer } from "./prompt-speed.js";

class PromptChecks {
  readonly #linears: PromptLinears;
  readonly #bench: KernelBench;
  readonly #gpu: DeviceContext;

  constructor(gpu: DeviceContext, linears: PromptLinears) {
    this.#linears = linears;
    this.#bench = linears.bench;
    this.#gpu = gpu;
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
      // Few tiles, as k is cut for: parts that are unequal, of which some have no superblock's beginning, or but one pair of steps.
      [129, [264], 2176, 128, 2],
      [130, [136], 384, 64, 1],
      [160, [512], 4096, 128, 2],
      [200, [128, 40, 40], 1408, 32, 0],
      [240, [200], 640, 128, 2],
      [255, [328], 1664, 64, 0],
      [256, [512], 11008, 128, 2],
      [193, [1024], 512, 32, 2],
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
    const weights = outputs.map((n) => this.#linears.weights(group, inputs, n, silu ? 0.02 : 0.08));
    const biases = outputs.map((n, i) => (rows % 2 === i % 2 ? bench.halves(n + (n % 2), 0.5) : 0n));
    let at = y;
    const linears = outputs.map((n, i) => {
      const linear = { weights: weights[i]!, bias: biases[i]!, outputs: n, y: at };
      at += BigInt(rows * n * (form === 0 ? 2 : 4));
      return linear;
    });
    const call: PromptLinearsCall = { x, rows, inputs, form, silu, linears, shape };
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
    const plain = this.#linears.reference(call, "quantized");
    const truth = this.#linears.reference(call, "half");
    prepare();
    this.#linears.slabs(call);
    const slabs = read();
    const add = (i: number) => (form === 2 ? (i % 37) / 37 : 0);
    const wanted = [plain, truth].map((values) => values.map((value, i) => value + add(i)));
    const firsts = PROMPT_CUTS.filter((cut) => fitsCut(shape, cut)).map((cut) => {
      let first: Float32Array | undefined;
      for (const tokens of PROMPT_TOKENS) {
        const launch = promptLaunchOf(this.#linears.card, shape, { tokens, cut });
        for (const grid of [launch.grid, cut === 1 ? ([3] as const) : launch.grid]) {
          const what = `${launch.name}/${cut} ${name(shape)} form ${form} on ${grid[0]}`;
          prepare();
          this.#linears.launch({ ...launch, grid }, call);
          const got = read();
          bench.compare(
            what,
            got,
            wanted[1]!,
            (form ? 1e-4 : 2e-2) * Math.sqrt(Math.max(1, inputs / 64)) * (silu ? 4 : 1) + truncated(inputs),
          );
          bench.compare(`${what}, unrounded weights`, got, wanted[0]!, (form ? 6e-4 : 2e-2) * Math.sqrt(inputs) * (silu ? 4 : 1));
          if (first) bench.same(`${what}: against the first`, got, first);
          first ??= got;
        }
      }
      return first!;
    });
    const first = firsts[0]!;
    const different = slabs.reduce((count, value, i) => count + (Object.is(value, first[i]) ? 0 : 1), 0);
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
      [hidden, hidden, hidden].map((n) => this.#linears.weights(group, hidden, n, 0.02)),
      this.#linears.weights(group, hidden, hidden, 0.02),
      this.#linears.weights(group, hidden, inner, 0.02),
      this.#linears.weights(group, hidden, inner, 0.02),
      this.#linears.weights(group, inner, hidden, 0.02),
    ] as const;
    const q = (i: number) => block + BigInt(i * rows * hidden * 2);
    const gated = block + BigInt(3 * rows * hidden * 2);
    const calls: PromptLinearsCall[] = [
      promptCall(
        x,
        { rows, inputs: hidden, outputs: [hidden, hidden, hidden], group, silu: false },
        0,
        qkv.map((weights, i) => [weights, q(i)]),
      ),
      promptCall(q(0), { rows, inputs: hidden, outputs: [hidden], group, silu: false }, 2, [[o, residual]]),
      promptCall(q(1), { rows, inputs: hidden, outputs: [inner, inner], group, silu: true }, 0, [
        [gate, gated],
        [up, 0n],
      ]),
      promptCall(gated, { rows, inputs: inner, outputs: [hidden], group, silu: false }, 2, [[down, residual]]),
    ];
    const graph = bench.captured(24, (i) => {
      const call = calls[i % 4]!;
      const tokens = PROMPT_TOKENS[(i >> 1) % PROMPT_TOKENS.length]!;
      // Each of the four with clusters of every size, behind each other and behind none.
      const cut = PROMPT_CUTS.filter((each) => fitsCut(call.shape, each))[(i + (i >> 2)) % PROMPT_CUTS.length] ?? 1;
      this.#linears.launch(promptLaunchOf(this.#linears.card, call.shape, { tokens, cut }), call);
    });
    let first: Float32Array | undefined;
    for (let round = 0; round < 200; round++) {
      this.#gpu.fill(residual, 0, rows * hidden * 4);
      this.#gpu.launchGraph(graph);
      const got = bench.download(residual, rows * hidden);
      if (got.some((value) => !Number.isFinite(value))) bench.fail("chain: not finite");
      if (first) bench.same(`chain, replay ${round}`, got, first);
      first ??= got;
    }
    console.log("chain of 24 launches, replayed 200 times");
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
  const linears = new PromptLinears(gpu);
  const { bench } = linears;
  if (asked.includes("check")) {
    new PromptChecks(gpu, linears).check();
    console.log(bench.failures === 0 ? "all kernels agree" : `${bench.failures} checks FAILED`);
  }
  const widths = asked.includes("widths");
  if (asked.includes("7b")) timeLayer(linears, "7b", 4096, 11008, 1920, widths);
  if (asked.includes("13b")) timeLayer(linears, "13b", 5120, 13824, 1920, widths);
  if (asked.includes("cuts")) timeCuts(linears);
  if (asked.includes("512")) timeLayer(linears, "7b", 4096, 11008, 512, widths);
  gpu.close();
  process.exit(bench.failures === 0 ? 0 : 1);
}

main();
