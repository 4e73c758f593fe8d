// Linears of some dozens of tokens (kernels/linear_batch.cu, on Hopper linear_batch_wgmma.cu) against the plain reference
// kernels, repeats bit by bit, and times of a layer's linears in captured graphs.
// Runs on a machine with a GPU: `node dist/gpu/batch-checks.js [check] [time]`.

import type { DeviceContext } from "../../src/backend/cuda/cards/device-context.js";
import { writeParameters } from "../../src/backend/cuda/launch/parameter-layout.js";
import type { BatchCut } from "../../src/backend/cuda/linears/batch-cut.js";
import { type BatchShape, batchLaunch, MOST_BATCHED } from "../../src/backend/cuda/linears/batch-launch.js";
import { mostWgmmaPieceBytes, wgmmaBatchLaunch } from "../../src/backend/cuda/linears/batch-launch-wgmma.js";
import { BATCH, BATCH_SUM, NORM } from "../../src/backend/cuda/linears/batch-layouts.js";
import { hasWgmma } from "../../src/backend/cuda/linears/gemm-launch.js";
import { LINEAR } from "../../src/backend/cuda/linears/linear-layouts.js";
import { batchParameters } from "../../src/backend/cuda/linears/tensor-map.js";
import { type KernelGroup, paddedInputs, TILE_ROWS, tileBytes } from "../../src/backend/cuda/weights/quantized-layout.js";
import { codeOrder } from "./code-order.js";
import { KernelBench } from "./kernel-bench.js";
import { quantizedWeights } from "./random-weights.js";
import { runSections } from "./run-sections.js";

interface Call {
  readonly shape: BatchShape;
  readonly weights: readonly bigint[];
  readonly biases?: readonly bigint[];
  readonly x: bigint;
  readonly y: readonly bigint[];
  /** f32; the sums are added to it, and normalised into y where there is a norm. */
  readonly residual?: bigint;
  readonly norm?: bigint;
  readonly pieces: bigint;
  readonly overlap?: boolean;
  readonly kind: Kind;
}

/**
 * By the kernels of any card, also on Hopper; by Hopper's; by those with x (and what silu makes) in the order of codes, as runs of all blocks,
 * by clusters, and as they are chosen.
 */
type Kind = "any" | "wgmma" | "runs" | "cluster" | "ordered";
const isOrdered = (kind: Kind) => kind === "runs" || kind === "cluster" || kind === "ordered";
/** All sizes of clusters, one here and one there. */
const clusterOf = ({ rows, inputs, outputs }: BatchShape) => 1 + ((rows + outputs[0]! / 8) % Math.min(8, inputs / 256));

const SCALE = 0.01;
const EPS = 1e-5;
/** What dequantised weights lose by being f16: half a unit in the last place of each, adding up like a random walk. */
const WEIGHT_ROUNDING = 2 ** -12;
const PIECES = 64 * 2 ** 20;
const WGMMA_PIECES = mostWgmmaPieceBytes(MOST_BATCHED);

class BatchChecks {
  readonly #bench: KernelBench;
  readonly #gpu: DeviceContext;
  /** Of Hopper's kernels: 0xffffffff between launches. */
  readonly #pieces: bigint;
  /** Which kernels there are on this card. */
  readonly #kinds: readonly Kind[];

  constructor(gpu: DeviceContext) {
    this.#bench = new KernelBench(gpu);
    this.#gpu = gpu;
    this.#pieces = gpu.allocate(WGMMA_PIECES);
    gpu.fill(this.#pieces, 0xff, WGMMA_PIECES);
    this.#kinds = hasWgmma(gpu.card) ? ["wgmma", "runs", "cluster", "ordered", "any"] : ["any"];
  }

  get failures(): number {
    return this.#bench.failures;
  }

  check(): void {
    for (const group of [128, 64, 32] as const)
      for (const [inputs, outputs] of [
        [4096, [1536, 512, 512]],
        [1024 + 192, [96]],
        [1024 + 256, [96]],
        [2048 + 64, [80, 16, 144]],
        [2048 + 512, [80, 16, 144]],
        [11008, [1200]],
        [Math.max(group, 64), [16, 16]],
        [256, [16, 200]],
      ] as const)
        for (const rows of [3, 8, 9, 16, 27, 32, 50, 64, 100, 128]) {
          this.#compareOutputs(group, rows, inputs, outputs);
        }
    for (const rows of [5, 16, 30, 64, 128]) {
      this.#compareGated(rows);
      this.#compareResidual(rows);
    }
    for (const hidden of [32, 4096, 8192]) this.#compareNorms(hidden);
    const left = new Uint32Array(WGMMA_PIECES / 4);
    this.#gpu.copyOut(left, this.#pieces);
    this.#gpu.synchronize();
    this.#bench.compare("numbers left in the places of pieces", [left.filter((word) => word !== 0xffffffff).length], [0], 0);
    console.log(this.failures === 0 ? "all agree with their references" : `${this.failures} comparisons FAILED`);
  }

  #compareOutputs(group: KernelGroup, rows: number, inputs: number, outputs: readonly number[]): void {
    const bench = this.#bench;
    const what = `q4 g${group} ${rows} x ${inputs} -> ${outputs}`;
    const weights = outputs.map((n) => quantizedWeights(bench, 4, group, inputs, n, SCALE).at);
    const biases = outputs.map((n) => bench.halves(n, 1));
    const x = bench.halves(rows * inputs, 1);
    const pieces = this.#gpu.allocate(PIECES);
    const y = outputs.map((n) => this.#gpu.allocate(rows * n * 2));
    const truth = outputs.map((n, i) => this.#reference(group, rows, inputs, n, weights[i]!, x, biases[i]!, 0n));
    const shape: BatchShape = { bits: 4, group, rows, inputs, outputs };
    const turned = this.#inOrder(x, rows * inputs);
    const read = (kind: Kind) => {
      outputs.forEach((n, i) => {
        this.#gpu.fill(y[i]!, 0xff, rows * n * 2);
      });
      this.#gpu.fill(pieces, 0xff, PIECES);
      if (!this.#run({ shape, weights, biases, x: isOrdered(kind) ? turned : x, y, pieces, kind })) return null;
      return outputs.map((n, i) => bench.downloadHalves(y[i]!, rows * n));
    };
    for (const kind of this.#kinds) {
      const first = read(kind);
      first?.forEach((values, i) => {
        bench.compare(`${what} [${i}] ${kind}`, values, truth[i]!, tolerance(inputs));
      });
      read(kind)?.forEach((values, i) => {
        bench.same(what, values, first![i]!);
      });
    }
    bench.free(...weights, ...biases, x, turned, pieces, ...y);
  }

  #compareGated(rows: number): void {
    const bench = this.#bench;
    const [inputs, n] = [4096, 1120];
    const weights = [0, 1].map(() => quantizedWeights(bench, 4, 128, inputs, n, 1 / 300).at);
    const biases = [0, 1].map(() => bench.halves(n, 1));
    const x = bench.halves(rows * inputs, 1);
    const [pieces, y] = [this.#gpu.allocate(PIECES), this.#gpu.allocate(rows * n * 2)];
    const [gate, up] = weights.map((at, i) => this.#reference(128, rows, inputs, n, at, x, biases[i]!, 0n)) as [
      Float32Array,
      Float32Array,
    ];
    const truth = gate.map((g, i) => (g / (1 + Math.exp(-g))) * up[i]!);
    const most = truth.reduce((most, v) => Math.max(most, Math.abs(v)), 0);
    const shape: BatchShape = { bits: 4, group: 128, rows, inputs, outputs: [n, n], paired: true };
    const turned = this.#inOrder(x, rows * inputs);
    for (const kind of this.#kinds) {
      this.#gpu.fill(y, 0xff, rows * n * 2);
      const ordered = isOrdered(kind);
      if (!this.#run({ shape, weights, biases, x: ordered ? turned : x, y: [y], pieces, kind })) continue;
      const got = bench.downloadHalves(y, rows * n);
      const values = ordered ? got.map((_, i) => got[i - (i % n) + codeOrder(i % n)]!) : got;
      bench.compare(`gated ${rows} ${kind}`, values, truth, most * 2e-3);
    }
    bench.free(...weights, ...biases, x, turned, pieces, y);
  }

  #compareResidual(rows: number): void {
    const bench = this.#bench;
    const [inputs, n] = [1280, 1064];
    const weights = quantizedWeights(bench, 4, 128, inputs, n, SCALE).at;
    const [bias, norm, x] = [bench.halves(n, 1), bench.halves(n, 1), bench.halves(rows * inputs, 1)];
    const before = Float32Array.from({ length: rows * n }, () => 40 * (Math.random() - 0.5));
    const residual = bench.upload(before);
    const [pieces, y] = [this.#gpu.allocate(PIECES), this.#gpu.allocate(rows * n * 2)];
    const truth = this.#reference(128, rows, inputs, n, weights, x, bias, residual);
    const factors = bench.downloadHalves(norm, n);
    const normed = new Float32Array(rows * n);
    for (let row = 0; row < rows; row++) {
      const values = truth.subarray(row * n, (row + 1) * n);
      const scale = 1 / Math.sqrt(values.reduce((sum, v) => sum + v * v, 0) / n + EPS);
      values.forEach((v, i) => {
        normed[row * n + i] = v * scale * factors[i]!;
      });
    }
    const shape: BatchShape = { bits: 4, group: 128, rows, inputs, outputs: [n] };
    const turned = this.#inOrder(x, rows * inputs);
    for (const kind of this.#kinds) {
      this.#gpu.copyIn(residual, before);
      const ordered = isOrdered(kind);
      if (
        !this.#run({ shape, weights: [weights], biases: [bias], x: ordered ? turned : x, y: [y], residual, norm, pieces, kind })
      )
        continue;
      bench.compare(`residual ${rows} ${kind}`, bench.download(residual, rows * n), truth, tolerance(inputs));
      if (kind === "any") bench.compare(`norm ${rows}`, bench.downloadHalves(y, rows * n), normed, 1e-2);
    }
    bench.free(weights, bias, norm, x, turned, residual, pieces, y);
  }

  /** Few rows' norm against that of any number, as it is and in the order of codes. */
  #compareNorms(hidden: number): void {
    const bench = this.#bench;
    const rows = 5;
    const [residual, weight] = [
      bench.upload(Float32Array.from({ length: rows * hidden }, () => Math.random() - 0.5)),
      bench.halves(hidden),
    ];
    const [y, hiddenState] = [this.#gpu.allocate(rows * hidden * 2), this.#gpu.allocate(rows * hidden * 4)];
    const run = (name: string, block: number, ordered: 0 | 1) => {
      const values = { residual, rows: 0n, weight, y, hiddenState, hidden, eps: EPS, ordered, unused: 0 };
      bench.launch({ family: "pointwise", name, grid: [rows], block, parameters: writeParameters(NORM, values) });
      return [bench.downloadHalves(y, rows * hidden), bench.download(hiddenState, rows * hidden)] as const;
    };
    const [truth, state] = run("rms_norm", 256, 0);
    const turned = truth.map((_, i) => truth[inverse(i)]!);
    for (const [name, block] of [
      ["rms_norm", 256],
      ["rms_norm_few", 512],
    ] as const)
      for (const ordered of [0, 1] as const) {
        const [got, gotState] = run(name, block, ordered);
        const what = `${name} of ${hidden}${ordered ? ", ordered" : ""}`;
        bench.compare(what, got, ordered ? turned : truth, 0.01);
        bench.compare(`${what}: hidden states`, gotState, state, 1e-4);
      }
    bench.free(residual, weight, y, hiddenState);

    function inverse(place: number): number {
      return Array.from({ length: 32 }, (_, k) => place - (place % 32) + k).find((k) => codeOrder(k) === place)!;
    }
  }

  /** The same f16 numbers in the order of codes. Rows are whole 32s. */
  #inOrder(x: bigint, count: number): bigint {
    const from = new Uint16Array(count);
    this.#gpu.copyOut(from, x);
    this.#gpu.synchronize();
    const to = new Uint16Array(count);
    from.forEach((value, i) => {
      to[codeOrder(i)] = value;
    });
    return this.#bench.upload(to);
  }

  /** f32 [rows, n] */
  #reference(
    group: KernelGroup,
    m: number,
    inputs: number,
    n: number,
    weights: bigint,
    x: bigint,
    bias: bigint,
    residual: bigint,
  ): Float32Array {
    const y = this.#gpu.allocate(m * n * 4);
    const k = paddedInputs(inputs);
    const shape = { m, n, k, kValid: inputs, ldx: inputs, ldy: n, zeroOffset: 0, yIsF32: 1 };
    const parameters = writeParameters(LINEAR, { weights, x, permutation: 0n, bias, residual, y, ...shape });
    const name = `linear_q4_g${group}_ref`;
    this.#bench.launch({ family: "linear_quantized", name, grid: [Math.ceil(n / 256), m], block: 256, parameters });
    const truth = this.#bench.download(y, m * n);
    this.#gpu.free(y);
    return truth;
  }

  /** @returns false where there is no such kernel for it */
  #run(call: Call): boolean {
    return call.kind === "any" ? this.#runPortable(call) : this.#runWgmma(call);
  }

  #runWgmma({ shape, weights, biases = [], x, y, residual = 0n, overlap, kind }: Call): boolean {
    const ordered = isOrdered(kind);
    const launch = wgmmaBatchLaunch(shape, this.#gpu.card, ordered, this.#cutOf(shape, kind));
    if (launch === null) return false;
    const [n0 = 0, n1 = 0, n2 = 0] = shape.outputs;
    const { family, name, grid, cluster, block, shared, tokens, units } = launch;
    const parameters = batchParameters(this.#gpu.driver, tokens, x, {
      ...{ weights0: weights[0]!, weights1: weights[1] ?? 0n, weights2: weights[2] ?? 0n },
      ...{ bias0: biases[0] ?? 0n, bias1: biases[1] ?? 0n, bias2: biases[2] ?? 0n },
      ...{ y0: y[0] ?? 0n, y1: y[1] ?? 0n, y2: y[2] ?? 0n, residual, pieces: this.#pieces },
      ...{ n0, n1, n2, m: shape.rows, k: shape.inputs, silu: shape.paired ? 1 : 0, units, unused: 0n },
      ordered: shape.paired && ordered ? 1 : 0,
    });
    this.#bench.launch({ family, name, grid: [grid], cluster, block, shared, parameters, overlap });
    return true;
  }

  /** `undefined`: what is chosen. */
  #cutOf(shape: BatchShape, kind: Kind): BatchCut | undefined {
    if (kind === "cluster") return { cluster: clusterOf(shape) };
    if (kind !== "runs" || shape.rows <= 16) return undefined;
    const chosen = wgmmaBatchLaunch(shape, this.#gpu.card);
    const blocks = this.#gpu.card.multiprocessors * (shape.rows > 64 ? 1 : 2);
    return chosen ? { runs: Math.min(blocks, (chosen.units * shape.inputs) / 256) } : undefined;
  }

  #runPortable({ shape, weights, biases = [], x, y, residual = 0n, norm = 0n, pieces, overlap }: Call): boolean {
    const launch = batchLaunch(shape, this.#gpu.card);
    if (launch === null) throw new Error(`${JSON.stringify(shape)} has no launch on this card`);
    const [n0 = 0, n1 = 0, n2 = 0] = shape.outputs;
    const { name, grid, block, shared, slices, units, stages, pieceTokens } = launch;
    const same = { pieces, n0, n1, n2, m: shape.rows, paired: shape.paired ? 1 : 0, slices, units };
    this.#bench.launch({
      ...{ family: "linear_batch", name, grid: [grid], block, shared, overlap },
      parameters: writeParameters(BATCH, {
        ...{ weights0: weights[0]!, weights1: weights[1] ?? 0n, weights2: weights[2] ?? 0n, x, ...same },
        ...{ k: paddedInputs(shape.inputs), kValid: shape.inputs, ldx: shape.inputs, stages, unused: 0 },
      }),
    });
    const parameters = writeParameters(BATCH_SUM, {
      ...{ bias0: biases[0] ?? 0n, bias1: biases[1] ?? 0n, bias2: biases[2] ?? 0n },
      ...{ y0: y[0] ?? 0n, y1: y[1] ?? 0n, y2: y[2] ?? 0n, residual, norm, ...same, blocks: grid, pieceTokens, eps: EPS },
    });
    const sums = { family: "linear_batch", parameters, overlap } as const;
    const rows = shape.rows;
    if (residual !== 0n) this.#bench.launch({ ...sums, name: "batch_norm", grid: [rows], block: 512, shared: n0 * 4 });
    else if (shape.paired) this.#bench.launch({ ...sums, name: "batch_silu", grid: [units, Math.ceil(rows / 16)], block: 256 });
    else this.#bench.launch({ ...sums, name: "batch_sum", grid: [units, Math.ceil(rows / 8)], block: 256 });
    return true;
  }

  /** A 7B model's linears, 32 layers of weights, µs per layer; each with its sums. */
  time(): void {
    const gpu = this.#gpu;
    const bench = this.#bench;
    const layers = 32;
    const kinds = [
      ["qkv", 4096, [4096, 4096, 4096]],
      ["o", 4096, [4096]],
      ["gate-up", 4096, [11008, 11008]],
      ["down", 11008, [4096]],
    ] as const;
    const all = kinds.map(([name, inputs, outputs]) => {
      const sizes = outputs.map((n) => (n / TILE_ROWS) * tileBytes(4, 128, inputs));
      const bytes = sizes.reduce((a, b) => a + b);
      const at = gpu.allocate(bytes * layers);
      const one = outputs.map((n) => quantizedWeights(bench, 4, 128, inputs, n, 1 / 300));
      for (let layer = 0; layer < layers; layer++) {
        let to = at + BigInt(layer * bytes);
        for (const part of one) {
          gpu.copyInside(to, part.at, part.bytes);
          to += BigInt(part.bytes);
        }
      }
      gpu.synchronize();
      bench.free(...one.map((part) => part.at));
      const weights = (layer: number) =>
        sizes.map((_, i) => at + BigInt(layer * bytes + sizes.slice(0, i).reduce((a, b) => a + b, 0)));
      return { name, inputs, outputs, bytes, at, weights };
    });
    const total = all.reduce((sum, { bytes }) => sum + bytes, 0);
    const [x, y, normed] = [bench.halves(128 * 11008, 1), gpu.allocate(128 * 22016 * 2), gpu.allocate(128 * 4096 * 2)];
    const residual = bench.upload(new Float32Array(128 * 4096));
    const norm = bench.halves(4096, 1);
    const pieces = gpu.allocate(PIECES);
    const run = ({ name, inputs, outputs, weights }: (typeof all)[number], layer: number, rows: number, kind: Kind) => {
      const paired = name === "gate-up";
      const adds = name === "o" || name === "down";
      this.#run({
        ...{ shape: { bits: 4, group: 128, rows, inputs, outputs, paired }, weights: weights(layer), x, pieces, overlap: true },
        y: adds ? [normed] : outputs.map((n, i) => y + BigInt(i * rows * n * 2)),
        ...(adds ? { residual, norm: name === "o" ? norm : 0n } : {}),
        kind,
      });
    };
    console.log(`us per layer: ${kinds.map(([name]) => name).join(", ")}; all four`);
    for (const kind of this.#kinds.filter((kind) => kind !== "cluster" && kind !== "runs"))
      for (const rows of kind === "ordered" ? [32, 64, 128] : [4, 8, 16, 32, 64, 128]) {
        const cells = [...all, null].map((linears) => {
          for (const each of linears ? [linears] : all) run(each, 0, rows, kind); // loads the kernels, which a capture cannot
          const graph = gpu.capture(() => {
            for (let layer = 0; layer < layers; layer++)
              for (const each of linears ? [linears] : all) run(each, layer, rows, kind);
          });
          return (bench.timed(linears ? 4 : 2, () => gpu.launchGraph(graph)) * 1e3) / layers;
        });
        const last = cells.at(-1)!;
        console.log(
          `${String(rows).padStart(3)} tokens, ${kind}: ${cells.map((us) => us.toFixed(1)).join(" ")}  (${(total / last / 1e3).toFixed(0)} GB/s)`,
        );
      }
    bench.free(...all.map(({ at }) => at), x, y, normed, residual, norm, pieces);
  }
}

/** x has deviation 1, codes and zeros are spread evenly over 16 values: differences of deviation 6.5. */
function tolerance(inputs: number): number {
  const walk = SCALE * 6.5 * 1.1 * Math.sqrt(inputs);
  // Five deviations, and the f16 of results of at most five deviations.
  return 5 * walk * (WEIGHT_ROUNDING + 2 ** -11) + 2e-3;
}

runSections((gpu) => new BatchChecks(gpu), { check: (checks) => checks.check(), time: (checks) => checks.time() }, [
  "check",
  "time",
]);
