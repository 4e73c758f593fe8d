// The end of a step for one token in one launch (kernels/linear_head.cu) against norm, head and facts in launches of their
// own, on made-up weights; repeats bit by bit; times of both in captured graphs, over several copies of the weights.
// Runs on a machine with a GPU: `node dist/gpu/head-checks.js [check] [repeat] [time]`.

import type { DeviceContext } from "../../src/backend/cuda/cards/device-context.js";
import { writeParameters } from "../../src/backend/cuda/launch/parameter-layout.js";
import { NORM } from "../../src/backend/cuda/linears/batch-layouts.js";
import { HALF_LINEAR } from "../../src/backend/cuda/linears/linear-layouts.js";
import { type HeadShape, headLaunch, headSlice, headSlices } from "../../src/backend/cuda/outputs/head-launch.js";
import { CHOOSE, HEAD, INSPECT, SAMPLE_SLOT } from "../../src/backend/cuda/outputs/output-layouts.js";
import { slicesPerRow } from "../../src/backend/cuda/outputs/sampling-shape.js";
import { READ_MEMORY } from "../../src/backend/cuda/steps/pointwise-layouts.js";
import { FACT_BYTES } from "../../src/backend/cuda/steps/step-shape.js";
import { KernelBench } from "./kernel-bench.js";
import { runSections } from "./run-sections.js";

const EPS = 1e-5;
/** The row of the residual stream that is looked at. */
const ROW = 2;
const ROWS = 3;
const REPEATS = 200;
const SLICE_BYTES = 16;

const shape = (outputs: number, inputs: number): HeadShape => ({ outputs, inputs });
const SHAPES: readonly HeadShape[] = [
  ...[shape(32000, 4096), shape(128256, 4096), shape(32000, 8192), shape(151936, 896)],
  ...[shape(32000, 2048), shape(32000, 5120), shape(152064, 3584), shape(32003, 3200), shape(262144, 2560)],
  ...[shape(259, 64), shape(1, 8), shape(7, 2056), shape(1000, 264), shape(131, 8184), shape(4099, 6152)],
];
const TIMED: readonly HeadShape[] = [
  ...[shape(32000, 4096), shape(32000, 5120), shape(128256, 4096), shape(32000, 8192), shape(151936, 896)],
  shape(32000, 2048),
];
/** Weights in turn: more than L2 holds. */
const COPIES_BYTES = 600e6;

interface Memory {
  readonly shape: HeadShape;
  readonly weights: readonly bigint[];
  readonly bias: bigint;
  readonly norm: bigint;
  readonly residual: bigint;
  /** i32 [1], and the target behind it */
  readonly rows: bigint;
  readonly x: bigint;
  readonly hiddenState: bigint;
  readonly logits: bigint;
  readonly slices: bigint;
  readonly slots: bigint;
  readonly facts: bigint;
}

/** What a step hears of its row. */
interface Facts {
  readonly highest: number;
  readonly sum: number;
  readonly id: number;
  readonly bad: number;
  readonly chosen: number;
}

class HeadChecks {
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
      for (const biased of [false, true]) {
        const memory = this.#memory(shape, 1, biased);
        this.#compare(memory, `${shape.outputs} x ${shape.inputs}${biased ? " biased" : ""}`);
        this.#free(memory);
      }
    console.log(this.failures === 0 ? "all agree with launches of their own" : `${this.failures} comparisons FAILED`);
  }

  #compare(memory: Memory, what: string): void {
    const bench = this.#bench;
    const { outputs, inputs } = memory.shape;
    this.#apart(memory);
    this.#choose(memory, slicesPerRow(outputs));
    const truth = this.#results(memory);
    for (const at of [memory.logits, memory.slices, memory.hiddenState]) this.#gpu.fill(at, 0xff, 16);
    this.#together(memory);
    this.#choose(memory, headSlices(memory.shape));
    const got = this.#results(memory);
    bench.same(`${what} hidden state`, got.hidden, truth.hidden);
    const most = truth.logits.reduce((most, v) => Math.max(most, Math.abs(v)), 0);
    bench.compare(`${what} logits`, got.logits, truth.logits, most * 2e-6 * Math.sqrt(inputs));
    this.#checkSlices(memory, got.logits, what);
    // Facts follow from the logits that are there; inspect_logits finds the same about them.
    this.#inspect(memory);
    this.#choose(memory, slicesPerRow(outputs));
    const inspected = this.#results(memory);
    bench.same(`${what} logits, looked at again`, inspected.logits, got.logits);
    for (const name of ["highest", "id", "bad", "chosen"] as const)
      if (!Object.is(got.facts[name], inspected.facts[name]))
        bench.fail(`${what} ${name}: ${got.facts[name]}, not ${inspected.facts[name]}`);
    bench.compare(`${what} sum`, [got.facts.sum], [inspected.facts.sum], inspected.facts.sum * 1e-5);
    this.#checkBroken(memory, what);
  }

  /** Every slice's facts, from its logits on the host. */
  #checkSlices({ shape, slices }: Memory, logits: Float32Array, what: string): void {
    const size = headSlice(shape.inputs);
    const count = headSlices(shape);
    const got = new DataView(this.#bench.download(slices, count * 4).buffer);
    for (let slice = 0; slice < count; slice++) {
      const at = slice * SLICE_BYTES;
      const own = logits.subarray(slice * size, (slice + 1) * size);
      const highest = own.reduce((most, v) => Math.max(most, v), -Infinity);
      const sum = own.reduce((sum, v) => sum + Math.exp(v - highest), 0);
      const right =
        got.getFloat32(at, true) === highest &&
        Math.abs(got.getFloat32(at + 4, true) - sum) < 1e-5 * sum &&
        got.getInt32(at + 8, true) === slice * size + own.indexOf(highest) &&
        got.getInt32(at + 12, true) === 0x7fffffff;
      if (!right) this.#bench.fail(`${what} slice ${slice}: other facts than its logits have`);
    }
  }

  /** Logits that are no numbers are told of, the first of them by its id. */
  #checkBroken(memory: Memory, what: string): void {
    const { outputs, inputs } = memory.shape;
    const weights = memory.weights[0]!;
    const nan = Uint16Array.of(0x7e00, 0x7e00);
    const id = Math.floor(outputs / 2);
    for (const broken of [Math.min(outputs - 1, id + 1), id])
      this.#gpu.copyIn(weights + BigInt((broken * inputs + inputs - 2) * 2), nan);
    this.#together(memory);
    this.#choose(memory, headSlices(memory.shape));
    const { bad } = this.#results(memory).facts;
    if (bad !== id) this.#bench.fail(`${what}: ${bad} is told of, where ${id} is no number`);
    this.#bench.fillHalves(weights, outputs * inputs, 1 / Math.sqrt(inputs));
  }

  repeat(): void {
    for (const shape of [SHAPES[0]!, SHAPES[3]!, SHAPES[7]!]) {
      const memory = this.#memory(shape, 1, true);
      this.#together(memory);
      const first = this.#bench.download(memory.logits, shape.outputs);
      const facts = this.#bench.download(memory.slices, headSlices(shape) * 4);
      this.#between(memory, false); // loads the kernel, which a capture cannot
      for (const overlap of [false, true]) {
        const graph = this.#gpu.capture(() => {
          for (let i = 0; i < 4; i++) {
            this.#between(memory, overlap);
            this.#together(memory, 0, overlap);
          }
        });
        for (let round = 0; round < REPEATS / 2; round++) {
          this.#gpu.fill(memory.logits, 0, shape.outputs * 4);
          this.#gpu.launchGraph(graph);
          const what = `${shape.outputs} x ${shape.inputs} repeat ${round}${overlap ? " overlapping" : ""}`;
          this.#bench.same(`${what} logits`, this.#bench.download(memory.logits, shape.outputs), first);
          this.#bench.same(`${what} facts`, this.#bench.download(memory.slices, headSlices(shape) * 4), facts);
        }
        this.#gpu.destroyGraph(graph);
      }
      // Fewer blocks, as a smaller card has.
      for (const grid of [1, 7, 114]) {
        this.#gpu.fill(memory.logits, 0, shape.outputs * 4);
        this.#together(memory, 0, false, { grid });
        this.#bench.same(`${grid} blocks, logits`, this.#bench.download(memory.logits, shape.outputs), first);
        this.#bench.same(`${grid} blocks, facts`, this.#bench.download(memory.slices, headSlices(shape) * 4), facts);
      }
      this.#free(memory);
    }
    console.log(this.failures === 0 ? `${REPEATS} repeats: the same bits, with fewer blocks too` : "repeats FAILED");
  }

  time(): void {
    for (const shape of TIMED) {
      const bytes = shape.outputs * shape.inputs * 2;
      const memory = this.#memory(shape, Math.max(2, Math.ceil(COPIES_BYTES / bytes)), false);
      const calls = memory.weights.length * 4;
      const row = (label: string, run: (copy: number) => void, reads = bytes) => {
        const us = this.#bench.timedGraph(calls, (call) => run(call % memory.weights.length)) * 1e3;
        const rate = reads > 0 ? `${((reads / us) * 1e-3).toFixed(0).padStart(6)} GB/s` : "";
        console.log(`${shape.outputs} x ${shape.inputs} ${label.padEnd(40)} ${us.toFixed(2).padStart(8)} us ${rate}`);
      };
      row("reading alone", (copy) => this.#read(memory, copy, bytes));
      row("head of its own", (copy) => this.#half(memory, copy, true));
      row("norm, head, facts", (copy) => this.#apart(memory, copy, true));
      row("norm, head, facts, choice", (copy) => {
        this.#apart(memory, copy, true);
        this.#choose(memory, slicesPerRow(shape.outputs), true);
      });
      const { stages } = headLaunch(shape, this.#gpu.card)!;
      row(`one launch, ${stages} stages`, (copy) => this.#together(memory, copy, true));
      for (const fewer of [3, 4, 5, 6].filter((fewer) => fewer < stages))
        row(`one launch, ${fewer} stages`, (copy) => this.#together(memory, copy, true, { stages: fewer }));
      row("one launch, choice", (copy) => {
        this.#together(memory, copy, true);
        this.#choose(memory, headSlices(shape), true);
      });
      row("a small launch, one launch, choice", (copy) => {
        this.#between(memory, true);
        this.#together(memory, copy, true);
        this.#choose(memory, headSlices(shape), true);
      });
      row("choice of these slices alone", () => this.#choose(memory, headSlices(shape), true), 0);
      row("choice of slices of 4096 alone", () => this.#choose(memory, slicesPerRow(shape.outputs), true), 0);
      this.#free(memory);
    }
  }

  #memory(shape: HeadShape, copies: number, biased: boolean): Memory {
    const bench = this.#bench;
    const { outputs, inputs } = shape;
    const even = (count: number) => count + (count % 2);
    const rows = Int32Array.of(ROW, -1);
    const slot = new Uint8Array(SAMPLE_SLOT.bytes);
    const fields = new DataView(slot.buffer);
    fields.setInt32(SAMPLE_SLOT.places.find(({ name }) => name === "mode")!.at, 1, true); // greedy
    fields.setInt32(SAMPLE_SLOT.places.find(({ name }) => name === "maskWords")!.at, -1, true);
    const slices = Math.max(headSlices(shape), slicesPerRow(outputs));
    return {
      shape,
      weights: Array.from({ length: copies }, () => bench.halves(even(outputs * inputs), 1 / Math.sqrt(inputs))),
      bias: biased ? bench.halves(even(outputs), 0.5) : 0n,
      norm: bench.halves(inputs, 1),
      residual: bench.upload(Float32Array.from({ length: ROWS * inputs }, () => 4 * (Math.random() - 0.5) ** 3)),
      rows: bench.upload(rows),
      x: this.#gpu.allocate(inputs * 2),
      hiddenState: this.#gpu.allocate(Math.max(16, inputs * 4)),
      logits: this.#gpu.allocate(Math.max(16, outputs * 4)),
      slices: this.#gpu.allocate(slices * SLICE_BYTES),
      slots: bench.upload(slot),
      facts: this.#gpu.allocate(FACT_BYTES),
    };
  }

  #free({ weights, shape: _, ...others }: Memory): void {
    this.#bench.free(...weights, ...Object.values(others));
  }

  #results({ shape, logits, hiddenState, facts }: Memory): { logits: Float32Array; hidden: Float32Array; facts: Facts } {
    const view = new DataView(this.#bench.download(facts, FACT_BYTES / 4).buffer);
    return {
      logits: this.#bench.download(logits, shape.outputs),
      hidden: this.#bench.download(hiddenState, shape.inputs),
      facts: {
        highest: view.getFloat32(0, true),
        sum: view.getFloat32(4, true),
        id: view.getInt32(12, true),
        bad: view.getInt32(16, true),
        chosen: view.getInt32(20, true),
      },
    };
  }

  #together(
    { shape, weights, bias, norm, residual, rows, hiddenState, logits, slices }: Memory,
    copy = 0,
    overlap = false,
    changes: Partial<{ grid: number; stages: number }> = {},
  ): void {
    const launch = headLaunch(shape, this.#gpu.card);
    if (launch === null) throw new Error(`${JSON.stringify(shape)} has no such kernel on this card`);
    const { name, grid, block, shared, stages } = { ...launch, ...changes };
    const parameters = writeParameters(HEAD, {
      ...{ weights: weights[copy]!, bias, residual, rows, norm, hiddenState, logits, slices },
      ...{ n: shape.outputs, k: shape.inputs, stages, eps: EPS },
    });
    this.#bench.launch({ family: "linear_head", name, grid: [grid], block, shared, parameters, overlap });
  }

  #apart(memory: Memory, copy = 0, overlap = false): void {
    const { shape, norm, residual, rows, x, hiddenState } = memory;
    const parameters = writeParameters(NORM, {
      ...{ residual, rows, weight: norm, y: x, hiddenState, hidden: shape.inputs, eps: EPS, ordered: 0, unused: 0 },
    });
    this.#bench.launch({ family: "pointwise", name: "rms_norm_few", grid: [1], block: 512, parameters, overlap });
    this.#half(memory, copy, overlap);
    this.#inspect(memory, overlap);
  }

  #half({ shape, weights, bias, x, logits }: Memory, copy: number, overlap: boolean): void {
    const { outputs: n, inputs: k } = shape;
    const parameters = writeParameters(HALF_LINEAR, {
      ...{ weights: weights[copy]!, x, bias, residual: 0n, y: logits, m: 1, n, k, ldx: k, ldy: n, yIsF32: 1 },
    });
    const launch = { name: "linear_half_gemv_m8", grid: [Math.ceil(n / 16)], block: 256 } as const;
    this.#bench.launch({ family: "linear_half_gemv", ...launch, parameters, overlap });
  }

  #inspect({ shape, logits, slices }: Memory, overlap = false): void {
    const each = slicesPerRow(shape.outputs);
    const parameters = writeParameters(INSPECT, { logits, slices, vocab: shape.outputs, slicesPerRow: each });
    this.#bench.launch({ family: "sample", name: "inspect_logits", grid: [each, 1], block: 256, parameters, overlap });
  }

  #choose({ shape, logits, slices, rows, slots, facts }: Memory, each: number, overlap = false): void {
    const parameters = writeParameters(CHOOSE, {
      ...{ logits, targets: rows + 4n, slices, slots, pool: slots, facts, ids: 0n, vocab: shape.outputs, slicesPerRow: each },
    });
    this.#bench.launch({ family: "sample", name: "choose_token", grid: [1], block: 512, parameters, overlap });
  }

  /** What is ahead of the head in a step, as far as launching goes. */
  #between({ shape, norm, residual, rows, x }: Memory, overlap: boolean): void {
    const parameters = writeParameters(NORM, {
      ...{ residual, rows, weight: norm, y: x, hiddenState: 0n, hidden: shape.inputs, eps: EPS, ordered: 0, unused: 0 },
    });
    this.#bench.launch({ family: "pointwise", name: "rms_norm_few", grid: [1], block: 512, parameters, overlap });
  }

  #read({ weights, logits }: Memory, copy: number, bytes: number): void {
    const parameters = writeParameters(READ_MEMORY, { from: weights[copy]!, sink: logits, cells: BigInt(bytes / 16) });
    const grid = [this.#gpu.card.multiprocessors * 8] as const;
    this.#bench.launch({ family: "pointwise", name: "read_memory", grid, block: 512, parameters, overlap: true });
  }
}

runSections(
  (gpu) => new HeadChecks(gpu),
  { check: (checks) => checks.check(), repeat: (checks) => checks.repeat(), time: (checks) => checks.time() },
  ["check", "repeat", "time"],
);
