// Two to eight tokens from an attention to the next in one launch (kernels/linear_chain_rows.cu), in layers without attention: against linears one
// by one, repeats and cuts bit by bit, and times of both in captured graphs.
// Runs on a machine with a Hopper card: `node dist/gpu/chain-rows-checks.js [check] [repeat] [time] [flying]`,
// or the names of models to time.

import type { DeviceContext } from "../../src/backend/cuda/cards/device-context.js";
import { fromHalfBits } from "../support/element-types.js";
import { differenceOf, noise } from "./differences.js";
import { KernelBench } from "./kernel-bench.js";
import { type Left, LinkedLayers, type Walk, type Way } from "./linked-layers.js";
import { EPS, type LayerWidths, MOST_ROWS, RandomStage } from "./random-stage.js";
import { runSections } from "./run-sections.js";

const MODELS: Record<string, LayerWidths> = {
  "7b": { hidden: 4096, attention: 4096, intermediate: 11008, next: [4096, 4096, 4096] },
  "8b": { hidden: 4096, attention: 4096, intermediate: 14336, next: [4096, 1024, 1024] },
  "13b": { hidden: 5120, attention: 5120, intermediate: 13824, next: [5120, 5120, 5120] },
  "70b": { hidden: 8192, attention: 8192, intermediate: 28672, next: [8192, 1024, 1024] },
};
const TIMED_LAYERS: Record<string, number> = { "7b": 32, "8b": 32, "13b": 32, "70b": 12 };
/** Tiles that are too few for all blocks, superblocks that end early, o's x of another width. */
const SMALL: readonly LayerWidths[] = [
  { hidden: 128, attention: 256, intermediate: 384, next: [128, 64, 64] },
  { hidden: 896, attention: 896, intermediate: 4864, next: [896, 128, 128] },
  { hidden: 1024, attention: 1024, intermediate: 2816, next: [1024, 256, 256] },
];
const LAYERS = 3;
const ROWS = [2, 3, 5, 8];
/** Deviations of the residual stream at first. */
const SIZES = [1, 1e-3, 1e4];
/** Of the deviation: both ways round x to f16, at other places. */
const MEAN_BOUND = 2e-3;
const REPEATS = 300;
/** Tokens of launches one after the other, on the same buffers. */
const VARIED = [8, 3, 8, 2, 5, 8, 2];

class ChainRowsChecks {
  readonly #bench: KernelBench;
  /** Largest mean difference so far. */
  #mean = 0;

  constructor(gpu: DeviceContext) {
    this.#bench = new KernelBench(gpu);
  }

  get failures(): number {
    return this.#bench.failures;
  }

  check(): void {
    for (const widths of [...SMALL, ...Object.values(MODELS)]) {
      const stage = new RandomStage(this.#bench, widths, LAYERS, widths.hidden <= 1024 ? LAYERS : 1);
      this.#mean = 0;
      for (const biased of [false, true]) {
        const layers = new LinkedLayers(this.#bench, stage, biased);
        const what = `${JSON.stringify(widths)}${biased ? ", biases" : ""}`;
        for (const size of SIZES) for (const toEnd of [false, true]) this.#compare(layers, widths, size, toEnd, what);
        this.#vary(layers, widths, what);
      }
      stage.free();
      console.log(`${JSON.stringify(widths)}: off by ${(this.#mean * 100).toFixed(3)} % of the deviation at most`);
    }
    console.log(this.failures === 0 ? "all agree" : `${this.failures} comparisons FAILED`);
  }

  #compare(layers: LinkedLayers, widths: LayerWidths, size: number, toEnd: boolean, shape: string): void {
    const before = noise(MOST_ROWS * widths.hidden, size);
    const walk = (rows: number): Walk => ({ rows, layers: LAYERS, toEnd });
    const run = (way: Way, rows: number) => layers.through(before, way, walk(rows));
    const [truth, all] = [run("apart", MOST_ROWS), run("linked", MOST_ROWS)];
    const named = (rows: number) => `${rows} rows of ${size}${toEnd ? " to the end" : ""}, ${shape}`;
    for (const rows of ROWS) {
      const what = named(rows);
      const got = run("linked", rows);
      this.#near(what, got, truth, rows, widths, toEnd);
      this.#untouched(what, got, before, rows, widths);
      this.#same(`${what}, again`, run("linked", rows), got, rows, widths);
      this.#same(`${what}, cut between layers`, run("cut", rows), got, rows, widths);
      for (let i = 0; i < 3; i++)
        this.#same(`${what}, captured`, layers.captured(before, "linked", [walk(rows)]), got, rows, widths);
      this.#sameTokens(`${what}, as eight`, got, all, rows, widths);
      const others = layers.through(withOthers(before, widths.hidden), "linked", walk(rows));
      this.#sameTokens(`${what}, beside others`, others, got, 1, widths);
    }
  }

  /** Launches with other numbers of tokens in between, without a wait and with. */
  #vary(layers: LinkedLayers, { hidden }: LayerWidths, shape: string): void {
    const what = `${VARIED.join(", ")} rows, ${shape}`;
    const before = noise(MOST_ROWS * hidden);
    const walks = VARIED.map((rows): Walk => ({ rows, layers: LAYERS, toEnd: true }));
    const { residual } = layers.captured(before, "linked", walks);
    for (let i = 0; i < 3; i++)
      this.#sameBytes(`${what}, again`, [bytesOf(layers.captured(before, "linked", walks).residual)], [bytesOf(residual)]);
    let left = before;
    for (const walk of walks) left = layers.through(left, "linked", walk).residual;
    this.#sameBytes(`${what}, one after the other`, [bytesOf(left)], [bytesOf(residual)]);
  }

  #near(what: string, got: Left, truth: Left, rows: number, { hidden, next }: LayerWidths, toEnd: boolean): void {
    this.#close(`${what}: residual stream`, got.residual.subarray(0, rows * hidden), truth.residual.subarray(0, rows * hidden));
    if (toEnd) return;
    next.forEach((outputs, i) => {
      const [values, wanted] = [got, truth].map(({ y }) => halvesOf(y[i]!, rows * outputs)) as [Float32Array, Float32Array];
      this.#close(`${what}: ${"qkv"[i]}`, values, wanted);
    });
    // What x of q, k and v was to be multiplied with.
    for (let row = 0; row < rows; row++) {
      const stream = got.residual.subarray(row * hidden, (row + 1) * hidden);
      const factor = 1 / Math.sqrt(stream.reduce((sum, value) => sum + value ** 2, 0) / hidden + EPS);
      const error = Math.abs(got.factors[row]! / factor - 1);
      if (!(error < 1e-5)) this.#bench.fail(`${what}: factor of row ${row} off by ${error}`);
    }
  }

  #close(what: string, values: Float32Array, truth: Float32Array): void {
    const [mean, worst] = differenceOf(values, truth);
    if (!(mean <= MEAN_BOUND) || !(worst <= 30 * MEAN_BOUND))
      this.#bench.fail(`${what} differs by ${mean} of the deviation, ${worst} at most`);
    if (!(mean <= this.#mean)) this.#mean = mean;
  }

  /** Of tokens that are not there nothing is written; factors lie where their residual stream would begin. */
  #untouched(
    what: string,
    { residual, y, factors }: Left,
    before: Float32Array<ArrayBuffer>,
    rows: number,
    { hidden, next }: LayerWidths,
  ): void {
    const stream = (of: Float32Array<ArrayBuffer>) => [bytesOf(of.subarray(rows * hidden + rows))];
    this.#sameBytes(`${what}: residual stream of others`, stream(residual), stream(before));
    const filled = [
      ...next.map((outputs, i) => bytesOf(y[i]!).subarray(rows * outputs * 2)),
      bytesOf(factors).subarray(rows * 4, MOST_ROWS * 4),
    ];
    this.#sameBytes(
      `${what}: q, k, v or factors of others`,
      filled,
      filled.map(({ length }) => new Uint8Array(length).fill(0xff)),
    );
  }

  /** All bits, but for what is handed on behind the residual stream: whoever cuts has left factors there. */
  #same(what: string, got: Left, first: Left, rows: number, { hidden }: LayerWidths): void {
    const behind = rows * hidden;
    const parts = ({ residual, y }: Left) => [residual.subarray(0, behind), residual.subarray(behind + rows), ...y].map(bytesOf);
    this.#sameBytes(what, parts(got), parts(first));
  }

  /** All bits of the first tokens. */
  #sameTokens(what: string, got: Left, first: Left, rows: number, { hidden, next }: LayerWidths): void {
    const parts = ({ residual, y }: Left) => [
      bytesOf(residual).subarray(0, rows * hidden * 4),
      ...next.map((outputs, i) => bytesOf(y[i]!).subarray(0, rows * outputs * 2)),
    ];
    this.#sameBytes(what, parts(got), parts(first));
  }

  /** Also of what is no number. */
  #sameBytes(what: string, got: readonly Uint8Array[], first: readonly Uint8Array[]): void {
    if (!got.every((part, i) => Buffer.compare(part, first[i]!) === 0)) this.#bench.fail(`${what}: other bits`);
  }

  /** The same bits every time, whatever the numbers of tokens one after the other. */
  repeat(): void {
    const widths = MODELS["7b"]!;
    const stage = new RandomStage(this.#bench, widths, LAYERS, 1);
    const layers = new LinkedLayers(this.#bench, stage, false);
    const before = noise(MOST_ROWS * widths.hidden);
    const walks = VARIED.map((rows): Walk => ({ rows, layers: LAYERS, toEnd: true }));
    const graph = layers.graph("linked", walks);
    const first = bytesOf(layers.replayed(before, graph).residual);
    for (let round = 0; round < REPEATS; round++)
      this.#sameBytes(`repeat ${round}`, [bytesOf(layers.replayed(before, graph).residual)], [first]);
    this.#bench.gpu.destroyGraph(graph);
    stage.free();
    const launches = REPEATS * VARIED.length * (LAYERS + 1);
    console.log(this.failures === 0 ? `${launches} launches: the same bits` : "repeats FAILED");
  }

  /** With other numbers of copies under way. */
  flying(name: string): void {
    const widths = MODELS[name]!;
    const count = TIMED_LAYERS[name]!;
    const stage = new RandomStage(this.#bench, widths, count, 1);
    const layers = new LinkedLayers(this.#bench, stage, false);
    const walk: Walk = { rows: MOST_ROWS, layers: count, toEnd: true };
    layers.through(noise(MOST_ROWS * widths.hidden), "linked", walk);
    const cells = [3, 4, 5, 6, 7].map((flying) => {
      const graph = layers.graph("linked", [walk], flying);
      const us = (this.#bench.timed(4, () => this.#bench.gpu.launchGraph(graph)) * 1e3) / count;
      this.#bench.gpu.destroyGraph(graph);
      return `${flying}: ${us.toFixed(2)}`;
    });
    console.log(`${name} ${MOST_ROWS} rows, us per layer by copies under way: ${cells.join("  ")}`);
    stage.free();
  }

  /** Whole layers without attention. */
  time(name: string): void {
    const widths = MODELS[name]!;
    const count = TIMED_LAYERS[name]!;
    const stage = new RandomStage(this.#bench, widths, count, 1);
    const layers = new LinkedLayers(this.#bench, stage, false);
    const [{ q, k, v, o, gate, up, down }] = stage.plain.layers as [(typeof stage.plain.layers)[number]];
    const bytes = [q, k, v, o, gate, up, down].reduce((sum, { weightBytes }) => sum + weightBytes, 0);
    console.log(`${name}, us per layer, GB/s of weights: linear by linear, one launch (three rounds each, in turn); medians`);
    for (const rows of [2, 4, 8]) {
      const walk: Walk = { rows, layers: count, toEnd: true };
      layers.through(noise(MOST_ROWS * widths.hidden), "linked", walk); // a residual stream of numbers to begin with
      const graphs = (["engine", "linked"] as const).map((way) => layers.graph(way, [walk]));
      const us: number[][] = [[], []];
      for (let round = 0; round < 3; round++)
        graphs.forEach((graph, i) => {
          us[i]!.push((this.#bench.timed(4, () => this.#bench.gpu.launchGraph(graph)) * 1e3) / count);
        });
      for (const graph of graphs) this.#bench.gpu.destroyGraph(graph);
      const cells = us.map((each) => {
        const median = [...each].sort((a, b) => a - b)[1]!;
        const all = each.map((value) => value.toFixed(2)).join(" ");
        return `${all}; ${median.toFixed(2)} us, ${((bytes / median) * 1e-3).toFixed(0)} GB/s`;
      });
      console.log(`${name} ${rows} rows: ${cells.join(" | ")}`);
    }
    stage.free();
  }
}

/** The first token as it is, others of another size. */
function withOthers(before: Float32Array, hidden: number): Float32Array<ArrayBuffer> {
  return Float32Array.from(before, (value, i) => (i < hidden ? value : value * -37));
}

function bytesOf({ buffer, byteOffset, byteLength }: Float32Array<ArrayBuffer>): Uint8Array {
  return new Uint8Array(buffer, byteOffset, byteLength);
}

/** The first `count` halves of bits. */
function halvesOf({ buffer }: Float32Array<ArrayBuffer>, count: number): Float32Array {
  return Float32Array.from(new Uint16Array(buffer, 0, count), fromHalfBits);
}

function checksOn(gpu: DeviceContext): ChainRowsChecks {
  if (gpu.card.major !== 9) throw new Error("several tokens go through one launch on Hopper only");
  return new ChainRowsChecks(gpu);
}

const names = Object.keys(MODELS);
runSections(
  checksOn,
  {
    check: (checks) => checks.check(),
    repeat: (checks) => checks.repeat(),
    time: (checks) => {
      for (const name of names) checks.time(name);
    },
    flying: (checks) => {
      for (const name of names) checks.flying(name);
    },
    ...Object.fromEntries(names.map((name) => [name, (checks: ChainRowsChecks) => checks.time(name)])),
  },
  ["check", "repeat", "time"],
);
