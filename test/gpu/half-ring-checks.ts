// An fp16 head of 2 to 8 tokens through a ring (kernels/linear_half_ring.cu) against the kernel that streams such weights
// (linear_half_gemv.cu), facts against the host, on made-up contents; repeats and fewer blocks bit by bit; times of both, with facts, in
// captured graphs, over several copies of the weights. Runs on a machine with a Hopper card: `node dist/gpu/half-ring-checks.js [check] [time]`.

import type { DeviceContext } from "../../src/backend/cuda/cards/device-context.js";
import { writeParameters } from "../../src/backend/cuda/launch/parameter-layout.js";
import { HALF_LINEAR } from "../../src/backend/cuda/linears/linear-layouts.js";
import { type HalfRingShape, halfRingLaunch, halfRingSlices } from "../../src/backend/cuda/outputs/half-ring-launch.js";
import { HALF_RING, INSPECT } from "../../src/backend/cuda/outputs/output-layouts.js";
import { slicesPerRow } from "../../src/backend/cuda/outputs/sampling-shape.js";
import { READ_MEMORY } from "../../src/backend/cuda/steps/pointwise-layouts.js";
import { KernelBench } from "./kernel-bench.js";
import { runSections } from "./run-sections.js";

const SHAPES: readonly Omit<HalfRingShape, "rows">[] = [
  { outputs: 32000, inputs: 4096 },
  { outputs: 32003, inputs: 2048 },
  { outputs: 32000, inputs: 5120 },
  { outputs: 8201, inputs: 8192 },
  { outputs: 128256, inputs: 3072 },
];
const ROWS = [2, 5, 8];
const REPEATS = 50;
/** Weights in turn: more than L2 holds. */
const COPIES_BYTES = 600e6;

interface Memory extends HalfRingShape {
  readonly weights: readonly bigint[];
  readonly x: bigint;
  readonly bias: bigint;
  readonly y: bigint;
  readonly slices: bigint;
}

const SLICE_IDS = 16;
const NONE_BAD = 0x7fffffff;

class HalfRingChecks {
  readonly #bench: KernelBench;
  readonly #gpu: DeviceContext;

  constructor(gpu: DeviceContext) {
    this.#bench = new KernelBench(gpu);
    this.#gpu = gpu;
  }

  get failures(): number {
    return this.#bench.failures;
  }

  check(): void {
    for (const shape of SHAPES)
      for (const rows of ROWS)
        for (const biased of [false, true]) {
          const memory = this.#memory({ ...shape, rows }, 1, biased);
          this.#compare(memory, `${rows} x ${shape.inputs} -> ${shape.outputs}${biased ? " biased" : ""}`);
          this.#free(memory);
        }
    console.log(this.failures === 0 ? "all agree" : `${this.failures} comparisons FAILED`);
  }

  #compare(memory: Memory, what: string): void {
    const read = (run: () => void) => {
      this.#gpu.fill(memory.y, 0xff, memory.rows * memory.outputs * 4);
      run();
      return this.#bench.download(memory.y, memory.rows * memory.outputs);
    };
    const truth = read(() => this.#streamed(memory));
    const got = read(() => this.#through(memory));
    const facts = this.#facts(memory);
    this.#checkFacts(memory, facts, got, what);
    const most = truth.reduce((most, v) => Math.max(most, Math.abs(v)), 0);
    this.#bench.compare(what, got, truth, most * 2e-6 * Math.sqrt(memory.inputs));
    for (const grid of [1, 7, 114])
      this.#bench.same(
        `${what}, ${grid} blocks`,
        read(() => this.#through(memory, 0, grid)),
        got,
      );
    // Behind itself, overlapping, as behind whatever is ahead of it in a step.
    const graph = this.#bench.captured(4, () => this.#through(memory));
    for (let i = 0; i < REPEATS; i++)
      this.#bench.same(
        `${what}, captured`,
        read(() => this.#gpu.launchGraph(graph)),
        got,
      );
    this.#bench.same(`${what}, captured, facts`, new Float32Array(this.#facts(memory)), new Float32Array(facts));
    this.#gpu.destroyGraph(graph);
    this.#checkBroken(memory, what);
  }

  /** Every slice's facts, from its logits on the host. */
  #checkFacts({ rows, outputs }: Memory, facts: ArrayBuffer, logits: Float32Array, what: string): void {
    const got = new DataView(facts);
    const count = halfRingSlices(outputs);
    for (let i = 0; i < rows * count; i++) {
      const first = (i % count) * SLICE_IDS;
      const row = logits.subarray(Math.floor(i / count) * outputs, (Math.floor(i / count) + 1) * outputs);
      const own = row.subarray(first, first + SLICE_IDS);
      const highest = own.reduce((most, v) => Math.max(most, v), -Infinity);
      const sum = own.reduce((sum, v) => sum + Math.exp(v - highest), 0);
      const right =
        got.getFloat32(16 * i, true) === highest &&
        Math.abs(got.getFloat32(16 * i + 4, true) - sum) < 1e-5 * sum &&
        got.getInt32(16 * i + 8, true) === first + own.indexOf(highest) &&
        got.getInt32(16 * i + 12, true) === NONE_BAD;
      if (!right) this.#bench.fail(`${what} slice ${i}: other facts than its logits have`);
    }
  }

  /** Logits that are no numbers are told of, the first of a slice. */
  #checkBroken(memory: Memory, what: string): void {
    const { inputs, outputs, rows } = memory;
    const [first, second] = [outputs - 2, outputs - 1];
    for (const row of [first, second])
      this.#gpu.copyIn(memory.weights[0]! + BigInt((row * inputs + inputs - 2) * 2), Uint16Array.of(0x7e00, 0x7e00));
    this.#through(memory);
    const facts = new DataView(this.#facts(memory));
    const slices = halfRingSlices(outputs);
    const wanted = Math.floor(first / SLICE_IDS) === Math.floor(second / SLICE_IDS) ? first : second;
    for (let token = 0; token < rows; token++) {
      const bad = facts.getInt32(16 * ((token + 1) * slices - 1) + 12, true);
      if (bad !== wanted) this.#bench.fail(`${what}, token ${token}: ${bad} is told of, where ${wanted} is no number`);
    }
  }

  #facts({ rows, outputs, slices }: Memory): ArrayBuffer {
    return this.#bench.download(slices, rows * halfRingSlices(outputs) * 4).buffer;
  }

  #free({ weights, x, bias, y, slices }: Memory): void {
    this.#bench.free(...weights, x, bias, y, slices);
  }

  time(): void {
    for (const shape of SHAPES)
      for (const rows of [2, 8]) {
        const bytes = shape.outputs * shape.inputs * 2;
        const memory = this.#memory({ ...shape, rows }, Math.max(2, Math.ceil(COPIES_BYTES / bytes)), false);
        const copies = memory.weights.length;
        const us = [
          (copy: number) => this.#read(memory, copy, bytes),
          (copy: number) => {
            this.#streamed(memory, copy);
            this.#inspect(memory);
          },
          (copy: number) => this.#through(memory, copy),
        ].map((run) => this.#bench.timedGraph(copies * 4, (call) => run(call % copies)) * 1e3);
        const cells = us.map((each) => `${each.toFixed(1)} us (${((bytes / each) * 1e-3).toFixed(0)} GB/s)`);
        console.log(
          `${rows} x ${shape.inputs} -> ${shape.outputs}: reading ${cells[0]}, streamed, and facts ${cells[1]}, through a ring ${cells[2]}`,
        );
        this.#free(memory);
      }
  }

  #memory(shape: HalfRingShape, copies: number, biased: boolean): Memory {
    const { rows, inputs, outputs } = shape;
    const bench = this.#bench;
    return {
      ...shape,
      weights: Array.from({ length: copies }, () => bench.halves(outputs * inputs, 1 / Math.sqrt(inputs))),
      x: bench.halves(rows * inputs, 1),
      bias: biased ? bench.halves(outputs + (outputs % 2), 0.5) : 0n,
      y: this.#gpu.allocate(rows * outputs * 4),
      slices: this.#gpu.allocate(rows * halfRingSlices(outputs) * 16),
    };
  }

  #streamed({ rows, inputs, outputs, weights, x, bias, y }: Memory, copy = 0): void {
    const sizes = { m: rows, n: outputs, k: inputs, ldx: inputs, ldy: outputs, yIsF32: 1 };
    const parameters = writeParameters(HALF_LINEAR, { weights: weights[copy]!, x, bias, residual: 0n, y, ...sizes });
    const launch = { name: "linear_half_gemv_m8", grid: [Math.ceil(outputs / 16)], block: 256 } as const;
    this.#bench.launch({ family: "linear_half_gemv", ...launch, parameters });
  }

  #inspect({ rows, outputs, y, slices }: Memory): void {
    const each = slicesPerRow(outputs);
    const parameters = writeParameters(INSPECT, { logits: y, slices, vocab: outputs, slicesPerRow: each });
    this.#bench.launch({ family: "sample", name: "inspect_logits", grid: [each, rows], block: 256, parameters });
  }

  #through(memory: Memory, copy = 0, blocks?: number): void {
    const launch = halfRingLaunch(memory, this.#gpu.card);
    if (launch === null) throw new Error("this card has no such kernel");
    const { grid, ...same } = launch;
    const { weights, bias, x, y, slices, rows: m, outputs: n } = memory;
    const parameters = writeParameters(HALF_RING, { weights: weights[copy]!, bias, x, y, slices, m, n });
    this.#bench.launch({ family: "linear_half_ring", ...same, grid: [blocks ?? grid], parameters });
  }

  #read({ weights, y }: Memory, copy: number, bytes: number): void {
    const parameters = writeParameters(READ_MEMORY, { from: weights[copy]!, sink: y, cells: BigInt(bytes / 16) });
    const grid = [this.#gpu.card.multiprocessors * 8] as const;
    this.#bench.launch({ family: "pointwise", name: "read_memory", grid, block: 512, parameters });
  }
}

runSections((gpu) => new HalfRingChecks(gpu), { check: (checks) => checks.check(), time: (checks) => checks.time() }, [
  "check",
  "time",
]);
