// The linears of decode steps (few tokens): streamed quantised linears and the fp16 GEMV against
// their plain reference kernels, repeats bit by bit, and their times in captured graphs with and
// without kernels that begin before those before them have ended.
// Runs on a machine with a GPU: `node dist/gpu/decode-checks.js [check] [time]`.

import type { DeviceContext } from "../../src/backend/cuda/cards/device-context.js";
import { writeParameters } from "../../src/backend/cuda/launch/parameter-layout.js";
import { NORM } from "../../src/backend/cuda/linears/batch-layouts.js";
import {
  type StreamChoices,
  type StreamingCard,
  type StreamShape,
  streamLaunch,
} from "../../src/backend/cuda/linears/linear-launch.js";
import { HALF_LINEAR, LINEAR, STREAM } from "../../src/backend/cuda/linears/linear-layouts.js";
import {
  type KernelGroup,
  paddedInputs,
  SUPERBLOCK,
  TILE_ROWS,
  tileBytes,
} from "../../src/backend/cuda/weights/quantized-layout.js";
import { KernelBench } from "./kernel-bench.js";
import { type Bits, quantizedWeights, shuffled, type Weights } from "./random-weights.js";
import { runSections } from "./run-sections.js";

interface Call {
  readonly shape: StreamShape;
  readonly weights: readonly bigint[];
  readonly biases?: readonly bigint[];
  readonly y: readonly bigint[];
  readonly x: bigint;
  readonly permutation?: bigint;
  readonly residual?: bigint;
  readonly f32?: boolean;
  /** x is f32 then. */
  readonly norm?: { readonly weight: bigint; readonly eps: number };
}

interface TimedChoices extends StreamChoices {
  /** RMSNorm as a launch of its own. */
  readonly normApart?: boolean;
}

class DecodeChecks {
  readonly #bench: KernelBench;
  readonly #gpu: DeviceContext;
  readonly #card: StreamingCard;

  constructor(gpu: DeviceContext) {
    this.#bench = new KernelBench(gpu);
    this.#gpu = gpu;
    const attribute = (id: number) => gpu.driver.i32("cuDeviceGetAttribute", [id, gpu.ordinal]);
    this.#card = { multiprocessors: attribute(16), major: attribute(75), sharedPerBlock: attribute(97) };
    console.log(JSON.stringify(this.#card));
  }

  get failures(): number {
    return this.#bench.failures;
  }

  check(): void {
    for (const bits of [4, 8, 2, 3] as const)
      for (const group of [128, 64, 32] as const)
        for (const [inputs, outputs, permuted] of [
          [4096, [48, 16, 32], false],
          [1024 + 192, [96], false],
          [2048 + 64, [80], true],
          [11008, [2400], false],
          [Math.max(group, 64), [16, 16], true],
        ] as const)
          for (const m of [1, 3, 8, 11, 16]) this.#compareQuantized(bits, group, m, inputs, outputs, permuted);
    for (const m of [1, 8, 16]) this.#compareSilu(m);
    for (const m of [1, 5, 16]) for (const permuted of [false, true]) this.#compareNorm(m, permuted);
    for (const [m, n, k] of [
      [1, 40, 64],
      [7, 129, 136],
      [8, 4000, 4096],
      [21, 200, 1032],
      [32, 17, 11008],
    ] as const)
      this.#compareHalf(m, n, k);
    console.log(this.failures === 0 ? "all agree with their references" : `${this.failures} comparisons FAILED`);
  }

  #compareQuantized(
    bits: Bits,
    group: KernelGroup,
    m: number,
    inputs: number,
    outputs: readonly number[],
    permuted: boolean,
  ): void {
    const gpu = this.#gpu;
    const what = `q${bits} g${group} ${m} x ${inputs} -> ${outputs}${permuted ? " permuted" : ""}`;
    const weights = outputs.map((n) => quantizedWeights(this.#bench, bits, group, inputs, n, 0.01));
    const x = this.#bench.halves(m * inputs, 1);
    const permutation = permuted ? this.#bench.upload(shuffled(inputs)) : 0n;
    const biases = outputs.map((n) => this.#bench.halves(n, 1));
    const residual = this.#bench.upload(Float32Array.from({ length: m * (outputs[0] as number) }, () => Math.random() - 0.5));
    const y = outputs.map((n) => gpu.allocate(m * n * 4));
    const poison = () => {
      outputs.forEach((n, i) => {
        gpu.fill(y[i] as bigint, 0xff, m * n * 4);
      });
    };
    const read = () => outputs.map((n, i) => this.#bench.download(y[i] as bigint, m * n));
    poison();
    outputs.forEach((n, i) => {
      const parameters = writeParameters(LINEAR, {
        weights: (weights[i] as Weights).at,
        x,
        permutation,
        bias: biases[i] as bigint,
        residual: i === 0 ? residual : 0n,
        y: y[i] as bigint,
        m,
        n,
        k: paddedInputs(inputs),
        kValid: inputs,
        ldx: inputs,
        ldy: n,
        zeroOffset: 0,
        yIsF32: 1,
      });
      const name = `linear_q${bits}_g${group}_ref`;
      this.#bench.launch({ family: "linear_quantized", name, grid: [Math.ceil(n / 256), m], block: 256, parameters });
    });
    const truth = read();
    // |w| |x| for codes spread evenly around a zero spread evenly, x in [-1, 1].
    const norm = 0.01 * 2 ** bits * 0.41 * Math.sqrt(inputs) * Math.sqrt(inputs / 3);
    const tolerance = 5e-6 * norm + offsetRounding(bits, group, m, inputs, 0.01 * 1.44);
    const call: Call = {
      shape: { bits, group, rows: m, inputs, outputs },
      weights: weights.map(({ at }) => at),
      biases,
      y,
      x,
      permutation,
      residual,
      f32: true,
    };
    const choices: StreamChoices[] = [{}, { slab: SUPERBLOCK, stages: 3 }];
    if (bits === 4 && m <= 8) choices.push({ blocksPerMultiprocessor: 2, slab: 2 * SUPERBLOCK });
    for (const choice of choices) {
      poison();
      this.#stream(call, choice);
      const first = read();
      this.#compare(`${what} ${JSON.stringify(choice)}`, first, truth, tolerance);
      poison();
      this.#stream(call, choice, true);
      if (read().some((values, s) => values.some((v, i) => !Object.is(v, first[s]?.[i]))))
        this.#bench.fail(`${what}: other bits`);
    }
    for (const pointer of [...weights.map(({ at }) => at), x, ...(permuted ? [permutation] : []), ...biases, residual, ...y])
      gpu.free(pointer);
  }

  /** silu(gate) * up in one launch against the two linears apart. */
  #compareSilu(m: number): void {
    const gpu = this.#gpu;
    const [inputs, n] = [4096, 4320];
    const weights = [0, 1].map(() => quantizedWeights(this.#bench, 4, 128, inputs, n, 1 / 300));
    const x = this.#bench.halves(m * inputs, 1);
    const y = [0, 1].map(() => gpu.allocate(m * n * 4));
    const shape = { bits: 4, group: 128, rows: m, inputs, outputs: [n, n] } as const;
    const call: Call = { shape, weights: weights.map(({ at }) => at), y, x, f32: true };
    this.#stream(call);
    const [gate, up] = y.map((at) => this.#bench.download(at, m * n)) as [Float32Array, Float32Array];
    const truth = gate.map((g, i) => (g / (1 + Math.exp(-g))) * (up[i] as number));
    for (const choice of [
      {},
      { slab: SUPERBLOCK },
      ...(m <= 8 ? [{ slab: SUPERBLOCK, blocksPerMultiprocessor: 2 } as const] : []),
    ]) {
      gpu.fill(y[0] as bigint, 0xff, m * n * 4);
      this.#stream({ ...call, shape: { ...shape, silu: true } }, choice);
      this.#compare(`silu m ${m} ${JSON.stringify(choice)}`, [this.#bench.download(y[0] as bigint, m * n)], [truth], 1e-4);
    }
    for (const pointer of [...weights.map(({ at }) => at), x, ...y]) gpu.free(pointer);
  }

  /** x normalised by the linear itself against rms_norm before it. */
  #compareNorm(m: number, permuted: boolean): void {
    const gpu = this.#gpu;
    const [inputs, n, eps] = [5120 - 64, 80, 1e-5];
    const weights = quantizedWeights(this.#bench, 4, 128, inputs, n, 1 / 300);
    const residual = this.#bench.upload(Float32Array.from({ length: m * inputs }, () => 40 * (Math.random() - 0.5) ** 3));
    const weight = this.#bench.halves(inputs, 1);
    const permutation = permuted ? this.#bench.upload(shuffled(inputs)) : 0n;
    const [x, y] = [gpu.allocate(m * inputs * 2), gpu.allocate(m * n * 4)];
    const normed = { residual, rows: 0n, weight, y: x, hiddenState: 0n, hidden: inputs, eps, ordered: 0, unused: 0 };
    this.#bench.launch({
      family: "pointwise",
      name: "rms_norm",
      grid: [m],
      block: 256,
      parameters: writeParameters(NORM, normed),
    });
    const shape = { bits: 4, group: 128, rows: m, inputs, outputs: [n] } as const;
    const call: Call = { shape, weights: [weights.at], y: [y], x, permutation, f32: true };
    this.#stream(call);
    const truth = this.#bench.download(y, m * n);
    for (const choice of [{}, { slab: SUPERBLOCK }]) {
      gpu.fill(y, 0xff, m * n * 4);
      this.#stream({ ...call, x: residual, norm: { weight, eps } }, choice, true);
      this.#compare(`norm m ${m}${permuted ? " permuted" : ""}`, [this.#bench.download(y, m * n)], [truth], 2e-2);
    }
    for (const pointer of [weights.at, residual, weight, x, y, ...(permuted ? [permutation] : [])]) gpu.free(pointer);
  }

  #compareHalf(m: number, n: number, k: number): void {
    const gpu = this.#gpu;
    const [x, w, bias, y] = [
      this.#bench.halves(m * k, 1),
      this.#bench.halves(n * k, 1),
      this.#bench.halves(n + (n % 2), 1),
      gpu.allocate(m * n * 4),
    ];
    const parameters = this.#halfParameters(w, x, y, m, n, k, bias);
    const grid = [Math.ceil(n / 256), m] as const;
    this.#bench.launch({ family: "linear_half", name: "linear_half_ref", grid, block: 256, parameters });
    const truth = this.#bench.download(y, m * n);
    gpu.fill(y, 0xff, m * n * 4);
    this.#gemv(parameters, m, n);
    this.#compare(`half gemv ${m} x ${n} x ${k}`, [this.#bench.download(y, m * n)], [truth], 2e-6 * k);
    for (const pointer of [x, w, bias, y]) gpu.free(pointer);
  }

  /** Decode steps' linears of a 7B model, 32 layers of weights, in captured graphs. */
  time(): void {
    const gpu = this.#gpu;
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
      // One layer from the host, the others shifted copies: sane scales, all different memory.
      const one = outputs.map((n) => quantizedWeights(this.#bench, 4, 128, inputs, n, 1 / 300));
      for (let layer = 0; layer < layers; layer++) {
        let to = at + BigInt(layer * bytes);
        for (const part of one) {
          gpu.copyInside(to, part.at, part.bytes);
          to += BigInt(part.bytes);
        }
      }
      gpu.synchronize();
      for (const part of one) gpu.free(part.at);
      const weights = (layer: number) =>
        sizes.map((_, i) => at + BigInt(layer * bytes + sizes.slice(0, i).reduce((a, b) => a + b, 0)));
      return { name, inputs, outputs, bytes, at, weights };
    });
    type Kind = (typeof all)[number];
    const total = all.reduce((sum, { bytes }) => sum + bytes, 0);
    const [a, b] = [this.#bench.halves(32 * 32768, 1), gpu.allocate(32 * 32768 * 4)];
    const residual = this.#bench.upload(Float32Array.from({ length: 32 * 4096 }, () => Math.random() - 0.5));
    const norm = { weight: this.#bench.halves(4096, 1), eps: 1e-5 };

    // As in a step: q, k, v and gate, up normalise the residual stream, o and down add to it.
    const stream = (kind: Kind, layer: number, m: number, overlap: boolean, choices: TimedChoices) => {
      const silu = kind.name === "gate-up";
      const shape: StreamShape = { bits: 4, group: 128, rows: m, inputs: kind.inputs, outputs: kind.outputs, silu };
      const y = kind.outputs.map((n, i) => b + BigInt(i * m * n * 2));
      const call = { shape, weights: kind.weights(layer) };
      if (!silu && kind.name !== "qkv") this.#stream({ ...call, y: [residual], x: a, residual, f32: true }, choices, overlap);
      else if (!choices.normApart) this.#stream({ ...call, y, x: residual, norm }, choices, overlap);
      else {
        const normed = {
          residual,
          rows: 0n,
          weight: norm.weight,
          y: a,
          hiddenState: 0n,
          hidden: 4096,
          eps: norm.eps,
          ordered: 0,
          unused: 0,
        };
        const parameters = writeParameters(NORM, normed);
        this.#bench.launch({ family: "pointwise", name: "rms_norm", grid: [m], block: 256, parameters, overlap });
        this.#stream({ ...call, y, x: a }, choices, overlap);
      }
    };
    const row = (label: string, m: number, run: (kind: Kind, layer: number, overlap: boolean) => void) => {
      const cells: string[] = [];
      for (const overlap of [false, true]) {
        for (const kind of [...all, null]) {
          const graph = gpu.capture(() => {
            for (let layer = 0; layer < layers; layer++) for (const each of kind ? [kind] : all) run(each, layer, overlap);
          });
          const us = (this.#bench.timed(kind ? 4 : 2, () => gpu.launchGraph(graph)) * 1e3) / layers;
          cells.push(
            kind
              ? `${us.toFixed(1)}`
              : `| all ${us.toFixed(1)} us ${((total / us) * 1e-3).toFixed(0)} GB/s${overlap ? "" : " || PDL "}`,
          );
        }
      }
      console.log(`${label.padEnd(26)} m ${String(m).padStart(2)}: ${cells.join(" ")}`);
    };
    console.log(
      `us per launch of ${kinds.map(([name]) => name).join(", ")}; then all four per layer (read at 3.09 TB/s: ${(total / 3.09e6).toFixed(1)} us)`,
    );
    const variants: [string, number, TimedChoices][] = [
      ["stream", 1, {}],
      ["stream, 1 block", 1, { blocksPerMultiprocessor: 1 }],
      ["stream, norm apart", 1, { normApart: true }],
      ["stream", 2, {}],
      ["stream, norm apart", 2, { normApart: true }],
      ["stream, norm apart", 4, { normApart: true }],
      ["stream, norm apart", 8, { normApart: true }],
      ["stream, norm apart", 16, { normApart: true }],
    ];
    for (const [label, m, choices] of variants) row(label, m, (kind, layer, overlap) => stream(kind, layer, m, overlap, choices));

    const quiet = this.#bench.halves(32 * 4096, 0.25);
    this.#repeats(all, quiet);
    gpu.free(quiet);
    for (const { at } of all) gpu.free(at);
    this.#timeHead();
    for (const pointer of [a, b, residual, norm.weight]) gpu.free(pointer);
  }

  /** Two layers, each linear reading what the one before wrote: the same bits with and without overlap, 200 times. */
  #repeats(
    kinds: readonly { inputs: number; outputs: readonly number[]; weights: (layer: number) => bigint[]; name: string }[],
    x: bigint,
  ): void {
    const gpu = this.#gpu;
    for (const m of [1, 8, 16]) {
      const buffers = [gpu.allocate(m * 12288 * 2), gpu.allocate(m * 12288 * 2)] as const;
      const graphs = [false, true].map((overlap) =>
        gpu.capture(() => {
          let turn = 0;
          for (const layer of [0, 1])
            for (const kind of kinds) {
              const from = layer + turn === 0 ? x : (buffers[turn % 2] as bigint);
              const to = buffers[(turn + 1) % 2] as bigint;
              const silu = kind.name === "gate-up";
              const shape: StreamShape = { bits: 4, group: 128, rows: m, inputs: kind.inputs, outputs: kind.outputs, silu };
              const y = kind.outputs.map((n, i) => to + BigInt(i * m * n * 2)).slice(0, silu ? 1 : undefined);
              this.#stream({ shape, weights: kind.weights(layer), y: silu ? [y[0] as bigint, 0n] : y, x: from }, {}, overlap);
              turn++;
            }
        }),
      );
      let truth: Float32Array | undefined;
      let different = 0;
      for (let repeat = 0; repeat < 200; repeat++) {
        gpu.launchGraph(graphs[repeat % 2] as bigint);
        const y = this.#bench.download(buffers[0] as bigint, m * 2048);
        truth ??= y;
        const bits = new Uint32Array(y.buffer);
        const expected = new Uint32Array(truth.buffer as ArrayBuffer);
        if (bits.some((v, i) => v !== expected[i])) different++;
      }
      const halves = [...new Uint16Array(truth?.buffer ?? new ArrayBuffer(0))];
      const finite = halves.every((v) => (v & 0x7c00) !== 0x7c00) && halves.some((v) => (v & 0x7fff) !== 0);
      if (different > 0 || !finite)
        this.#bench.fail(`chain m ${m}: ${different} of 200 repeats differ, ${finite ? "finite" : "not finite or all zero"}`);
      for (const pointer of buffers) gpu.free(pointer);
    }
  }

  #timeHead(): void {
    const gpu = this.#gpu;
    const [n, k] = [32000, 4096];
    const [w, x, y] = [gpu.allocate(n * k * 2 * 2), this.#bench.halves(32 * k, 1), gpu.allocate(32 * n * 4)];
    this.#bench.fillHalves(w, n * k * 2);
    for (const m of [1, 8, 32]) {
      const graph = gpu.capture(() => {
        for (let i = 0; i < 8; i++)
          this.#gemv(this.#halfParameters(w + BigInt((i % 2) * n * k * 2), x, y, m, n, k, 0n), m, n, true);
      });
      const us = (this.#bench.timed(2, () => gpu.launchGraph(graph)) * 1e3) / 8;
      console.log(`head m ${m}: ${us.toFixed(1)} us, ${((n * k * 2) / us / 1e3).toFixed(0)} GB/s`);
    }
    for (const pointer of [w, x, y]) gpu.free(pointer);
  }

  #gemv(parameters: Uint8Array, m: number, n: number, overlap = false): void {
    const columns = m <= 8 ? 8 : 32;
    const grid = [Math.ceil(n / 16), Math.ceil(m / columns)] as const;
    const name = `linear_half_gemv_m${columns}`;
    this.#bench.launch({ family: "linear_half_gemv", name, grid, block: 256, parameters, overlap });
  }

  #halfParameters(weights: bigint, x: bigint, y: bigint, m: number, n: number, k: number, bias: bigint): Uint8Array {
    return writeParameters(HALF_LINEAR, { weights, x, bias, residual: 0n, y, m, n, k, ldx: k, ldy: n, yIsF32: 1 });
  }

  #stream(call: Call, choices: StreamChoices = {}, overlap = false): void {
    const { shape, weights, biases = [], y, x, permutation = 0n, residual = 0n, f32 = false, norm } = call;
    const { name, grid, block, shared, slab, stages } = streamLaunch(shape, this.#card, choices);
    const [n0 = 0, n1 = 0, n2 = 0] = shape.outputs;
    const parameters = writeParameters(STREAM, {
      weights0: weights[0] ?? 0n,
      weights1: weights[1] ?? 0n,
      weights2: weights[2] ?? 0n,
      bias0: biases[0] ?? 0n,
      bias1: biases[1] ?? 0n,
      bias2: biases[2] ?? 0n,
      y0: y[0] ?? 0n,
      y1: y[1] ?? 0n,
      y2: y[2] ?? 0n,
      x,
      permutation,
      residual,
      n0,
      n1,
      n2,
      ldy0: n0,
      ldy1: n1,
      ldy2: n2,
      m: shape.rows,
      k: paddedInputs(shape.inputs),
      kValid: shape.inputs,
      ldx: shape.inputs,
      yIsF32: f32 ? 1 : 0,
      silu: shape.silu ? 1 : 0,
      slab,
      stages,
      norm: norm?.weight ?? 0n,
      eps: norm?.eps ?? 0,
      unused: 0,
    });
    this.#bench.launch({ family: "linear_stream", name, grid: [grid], block, parameters, shared, overlap });
  }

  #compare(what: string, got: readonly Float32Array[], truth: readonly Float32Array[], tolerance: number): void {
    got.forEach((values, segment) => {
      this.#bench.compare(`${what} [${segment}]`, values, truth[segment]!, tolerance);
    });
  }
}

/**
 * What the streamed linears may lose because codes go to the tensor cores as 1024 + code, the offset being taken off when
 * the products are summed (quantized.cuh, raw_fragment()).
 *
 * A chain of products sums `length` k in steps of 16, each of which rounds towards zero. The sum that a step makes is
 * less than 3 · √length · (1024 + 2^bits) for x of deviation 1: three deviations of a random walk. Its last place is at
 * most 2^−23 of it, which the step loses in the result; what it loses where it aligns its addends, a bit or two further
 * down and of mixed signs, comes to no more again and is covered by the three deviations, of which most sums have one.
 * So a chain loses steps · 2^−23 · 3 · √length · (1024 + 2^bits), times the scale; chains end with sums of either sign, and
 * what they lose adds up like a random walk: √chains.
 *
 * Products simulated step by step (truncation one or two bits below the largest addend, the sum truncated to 24 bits; all
 * bits and groups, 64 to 4096 k) lose up to 0.59 of this for the smallest shapes and 0.2 for large ones; an H100 lost what
 * was simulated: 9·10^−5 for 16 tokens of 128 k.
 */
function offsetRounding(bits: Bits, group: KernelGroup, m: number, inputs: number, scale: number): number {
  const length = m <= 8 && group === 128 ? 64 : group; // two chains to a group of 128, see stream_span()
  const steps = length / 16;
  const chains = Math.ceil(inputs / length);
  return scale * steps * 2 ** -23 * 3 * Math.sqrt(length) * (1024 + 2 ** bits) * Math.sqrt(chains);
}

runSections((gpu) => new DecodeChecks(gpu), { check: (checks) => checks.check(), time: (checks) => checks.time() }, [
  "check",
  "time",
]);
