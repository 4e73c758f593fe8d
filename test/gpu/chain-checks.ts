// The linears between two attentions of one token in one launch (kernels/linear_chain.cu) against the same by
// linear_stream.cu one after the other, repeats bit by bit, and times in captured graphs: also of whole layers
// (kernels/chain_layers.cu), which main.js compares with the reference.
// Runs on a machine with a GPU: `node dist/gpu/chain-checks.js [check] [time]`.

import type { DeviceContext } from "../../src/backend/cuda/cards/device-context.js";
import { type ChainHeads, chainHeads, chainLaunch, chainScratch } from "../../src/backend/cuda/chains/chain-launch.js";
import { type ChainLayerPlaces, chainLayersParameters, chainParameters } from "../../src/backend/cuda/chains/chain-parameters.js";
import { writeParameters } from "../../src/backend/cuda/launch/parameter-layout.js";
import { NORM } from "../../src/backend/cuda/linears/batch-layouts.js";
import { streamLaunch } from "../../src/backend/cuda/linears/linear-launch.js";
import { STREAM } from "../../src/backend/cuda/linears/linear-layouts.js";
import { paddedInputs, TILE_ROWS, tileBytes } from "../../src/backend/cuda/weights/quantized-layout.js";
import { KernelBench } from "./kernel-bench.js";
import { quantizedWeights } from "./random-weights.js";
import { runSections } from "./run-sections.js";

interface Shape {
  readonly hidden: number;
  readonly attention: number;
  readonly intermediate: number;
  readonly next: readonly number[];
}

/** One linear, or several that share x. */
interface ChainLinear {
  readonly weights: readonly bigint[];
  readonly biases: readonly bigint[];
  readonly outputs: readonly number[];
  readonly inputs: number;
}

interface Layer {
  readonly shape: Shape;
  /** o, gate and up, down, q and k and v */
  readonly linears: readonly ChainLinear[];
  readonly norm: bigint;
  readonly nextNorm: bigint;
}

interface Buffers {
  readonly attention: bigint;
  readonly residual: bigint;
  readonly y: readonly bigint[];
  readonly gated: bigint;
}

const EPS = 1e-5;
const SHAPES: Record<string, Shape> = {
  "7b": { hidden: 4096, attention: 4096, intermediate: 11008, next: [4096, 4096, 4096] },
  "13b": { hidden: 5120, attention: 5120, intermediate: 13824, next: [5120, 5120, 5120] },
  "8b": { hidden: 4096, attention: 4096, intermediate: 14336, next: [4096, 1024, 1024] },
  "70b": { hidden: 8192, attention: 8192, intermediate: 28672, next: [8192, 1024, 1024] },
};
const LAYERS: Record<string, number> = { "7b": 32, "13b": 40, "8b": 32, "70b": 16 };

class ChainChecks {
  readonly #bench: KernelBench;
  readonly #gpu: DeviceContext;
  readonly #packets: { readonly sums: bigint; readonly gated: bigint; readonly pieces: bigint; readonly epochs: bigint };
  readonly #headPackets: { readonly heads: bigint; readonly gathered: bigint; readonly parts: bigint };

  constructor(gpu: DeviceContext) {
    this.#bench = new KernelBench(gpu);
    this.#gpu = gpu;
    const largest = {
      bits: 4,
      group: 128,
      hidden: 8192,
      attention: 8192,
      intermediate: 28672,
      next: [8192, 8192, 8192],
    } as const;
    const bytes = chainScratch(largest, { heads: 64, kvHeads: 8, headDim: 128 });
    const zeros = (count: number) => {
      const at = gpu.allocate(count);
      this.#packetBytes.push([at, count]);
      return at;
    };
    this.#packets = {
      sums: zeros(bytes.sums),
      gated: zeros(bytes.gated),
      pieces: zeros(bytes.pieces),
      epochs: zeros(bytes.epochs),
    };
    this.#headPackets = {
      heads: zeros(3 * 8192 * 4),
      gathered: zeros(bytes.gathered),
      parts: zeros(bytes.parts),
    };
  }

  /** Where packets are, and how many bytes. */
  readonly #packetBytes: [at: bigint, bytes: number][] = [];
  /** Position, page table, cosines and sines. */
  #input: bigint | null = null;

  get failures(): number {
    return this.#bench.failures;
  }

  check(): void {
    const shapes: Shape[] = [
      { hidden: 1024, attention: 1024, intermediate: 2816, next: [1024, 1024, 1024] },
      { hidden: 128, attention: 256, intermediate: 384, next: [128, 64, 64] },
      { hidden: 896, attention: 896, intermediate: 4864, next: [896, 128, 128] },
      { hidden: 3584, attention: 3584, intermediate: 18944, next: [3584, 512, 512] },
      ...Object.values(SHAPES),
    ];
    for (const shape of shapes) for (const biased of [false, true]) this.#compare(shape, biased);
    console.log(this.failures === 0 ? "all agree with linears one by one" : `${this.failures} comparisons FAILED`);
  }

  #compare(shape: Shape, biased: boolean): void {
    const bench = this.#bench;
    const layer = this.#layer(shape, biased);
    const buffers = this.#buffers(shape);
    const before = Float32Array.from({ length: shape.hidden }, () => 4 * (Math.random() - 0.5) ** 3);
    for (const next of [true, false]) {
      const what = `${JSON.stringify(shape)}${biased ? " biased" : ""}${next ? "" : " last"}`;
      const run = (chain: boolean) => {
        this.#gpu.copyIn(buffers.residual, before);
        if (chain) this.#chain(layer, buffers, { next });
        else this.#apart(layer, buffers, next);
        const residual = bench.download(buffers.residual, shape.hidden);
        return { residual, y: next ? shape.next.map((n, i) => bench.downloadHalves(buffers.y[i]!, n)) : [] };
      };
      const truth = run(false);
      const got = run(true);
      const again = run(true);
      const most = (values: Float32Array) => values.reduce((most, v) => Math.max(most, Math.abs(v)), 0);
      bench.compare(`${what} residual`, got.residual, truth.residual, most(truth.residual) * 1e-3);
      bench.same(`${what} residual`, again.residual, got.residual);
      got.y.forEach((values, i) => {
        bench.compare(`${what} y${i}`, values, truth.y[i]!, most(truth.y[i]!) * 2e-3);
        bench.same(`${what} y${i}`, again.y[i]!, values);
      });
    }
    this.#compareBefore(layer, buffers, before);
    this.#free(layer, buffers);
  }

  /** q, k and v alone, as ahead of a stage's first attention. */
  #compareBefore(layer: Layer, buffers: Buffers, before: Float32Array<ArrayBuffer>): void {
    const bench = this.#bench;
    const { hidden, next } = layer.shape;
    this.#gpu.copyIn(buffers.residual, before);
    this.#stream(layer.linears[3]!, { x: buffers.residual, y: buffers.y, norm: layer.nextNorm }, false);
    const truth = next.map((n, i) => bench.downloadHalves(buffers.y[i]!, n));
    this.#chain({ ...layer, shape: { ...layer.shape, attention: 0, intermediate: 0 } }, buffers, { after: false });
    bench.same(`${JSON.stringify(layer.shape)} residual, nothing before`, bench.download(buffers.residual, hidden), before);
    truth.forEach((values, i) => {
      const most = values.reduce((most, v) => Math.max(most, Math.abs(v)), 0);
      bench.compare(
        `${JSON.stringify(layer.shape)} y${i}, nothing before`,
        bench.downloadHalves(buffers.y[i]!, values.length),
        values,
        most * 2e-3,
      );
    });
  }

  time(names: readonly string[]): void {
    for (const name of names) {
      const shape = SHAPES[name]!;
      const count = LAYERS[name]!;
      const first = this.#layer(shape, false);
      const layers = [first, ...Array.from({ length: count - 1 }, () => this.#copy(first))];
      const buffers = this.#buffers(shape);
      const bytes = first.linears.reduce(
        (sum, { outputs, inputs }) => sum + outputs.reduce((tiles, n) => tiles + n / TILE_ROWS, 0) * tileBytes(4, 128, inputs),
        0,
      );
      const row = (label: string, run: (layer: Layer) => void) => {
        const graph = this.#gpu.capture(() => {
          for (const layer of layers) run(layer);
        });
        const us = (this.#bench.timed(4, () => this.#gpu.launchGraph(graph)) * 1e3) / count;
        this.#gpu.destroyGraph(graph);
        console.log(
          `${name} ${label.padEnd(28)} ${us.toFixed(1).padStart(6)} us per layer ${((bytes / us) * 1e-3).toFixed(0).padStart(5)} GB/s`,
        );
      };
      const between = (overlap: boolean) => {
        const parameters = writeParameters(NORM, {
          ...{ residual: buffers.residual, rows: 0n, weight: first.norm, y: buffers.gated, hiddenState: 0n },
          ...{ hidden: shape.hidden, eps: EPS, ordered: 0, unused: 0 },
        });
        this.#bench.launch({ family: "pointwise", name: "rms_norm", grid: [32], block: 256, parameters, overlap });
      };
      between(false);
      this.#apart(first, buffers, true);
      row("linears one by one", (layer) => this.#apart(layer, buffers, true, true));
      row("  and a launch between", (layer) => {
        this.#apart(layer, buffers, true, true);
        between(true);
      });
      for (const flying of [3, 4, 5]) {
        row(`chain, ${flying} copies`, (layer) => this.#chain(layer, buffers, { overlap: true, flying }));
        row("  and a launch between", (layer) => {
          this.#chain(layer, buffers, { overlap: true, flying });
          between(true);
        });
      }
      this.#timeWhole(name, layers, buffers);
      for (const layer of layers) this.#free(layer, null);
    }
  }

  /** Whole layers, by the keys that are in the cache. */
  #timeWhole(name: string, layers: readonly Layer[], buffers: Buffers): void {
    const { shape } = layers[0]!;
    const cacheBytes = MOST_KEYS * shape.next[1]! * 2;
    this.#input ??= this.#bench.upload(new Float32Array(2048));
    this.#gpu.copyIn(
      this.#input + 256n,
      Int32Array.from({ length: MOST_KEYS / 256 }, (_, i) => i),
    );
    const caches = layers.flatMap(() => [this.#gpu.allocate(cacheBytes), this.#gpu.allocate(cacheBytes)]);
    for (const cache of caches) this.#gpu.fill(cache, 0, cacheBytes);
    const times = KEYS.map((keys) => {
      this.#gpu.copyIn(this.#input!, Int32Array.of(keys - 1));
      const us = (this.#bench.timed(20, () => this.#whole(layers, buffers, caches)) * 1e3) / layers.length;
      return `${keys}: ${us.toFixed(1)}`;
    });
    console.log(`${name} whole layers, us per layer with so many keys  ${times.join("  ")}`);
    this.#bench.free(...caches);
  }

  /** The same bits every time, with and without launches that overlap. */
  repeat(): void {
    const layer = this.#layer(SHAPES["7b"]!, false);
    const buffers = this.#buffers(layer.shape);
    const before = Float32Array.from({ length: layer.shape.hidden }, () => Math.random() - 0.5);
    let first: Float32Array | null = null;
    for (const overlap of [false, true]) {
      const graph = this.#gpu.capture(() => {
        for (let i = 0; i < 8; i++) this.#chain(layer, buffers, { next: true, overlap });
      });
      for (let round = 0; round < 500; round++) {
        this.#gpu.copyIn(buffers.residual, before);
        this.#gpu.launchGraph(graph);
        const residual = this.#bench.download(buffers.residual, layer.shape.hidden);
        first ??= residual;
        this.#bench.same(`repeat ${round}${overlap ? " overlapping" : ""}`, residual, first);
      }
      this.#gpu.destroyGraph(graph);
    }
    console.log(this.failures === 0 ? "8000 launches: the same bits" : "repeats FAILED");
    this.#free(layer, buffers);
  }

  #layer(shape: Shape, biased: boolean): Layer {
    const { hidden, attention, intermediate, next } = shape;
    const linear = (inputs: number, outputs: readonly number[]): ChainLinear => ({
      weights: outputs.map((n) => quantizedWeights(this.#bench, 4, 128, inputs, n, 1 / 20 / Math.sqrt(inputs)).at),
      biases: outputs.map((n) => (biased ? this.#bench.halves(n, 0.1) : 0n)),
      outputs,
      inputs,
    });
    return {
      shape,
      linears: [
        linear(attention, [hidden]),
        linear(hidden, [intermediate, intermediate]),
        linear(intermediate, [hidden]),
        linear(hidden, next),
      ],
      norm: this.#bench.halves(hidden, 1),
      nextNorm: this.#bench.halves(hidden, 1),
    };
  }

  /** Other memory with the same contents. */
  #copy(layer: Layer): Layer {
    const linears = layer.linears.map((linear) => ({
      ...linear,
      weights: linear.weights.map((from, i) => {
        const bytes = (linear.outputs[i]! / TILE_ROWS) * tileBytes(4, 128, linear.inputs);
        const to = this.#gpu.allocate(bytes);
        this.#gpu.copyInside(to, from, bytes);
        return to;
      }),
    }));
    return { ...layer, linears };
  }

  #buffers({ hidden, attention, intermediate, next }: Shape): Buffers {
    // Packets are of one shape for life.
    for (const [at, bytes] of this.#packetBytes) this.#gpu.fill(at, 0, bytes);
    return {
      attention: this.#bench.halves(attention, 1),
      residual: this.#bench.upload(new Float32Array(hidden)),
      y: next.map((n) => this.#gpu.allocate(n * 2)),
      gated: this.#gpu.allocate(Math.max(intermediate, 32 * hidden) * 2),
    };
  }

  #free({ linears, norm, nextNorm }: Layer, buffers: Buffers | null): void {
    for (const { weights } of linears) this.#bench.free(...weights);
    if (buffers === null) return;
    for (const { biases } of linears) this.#bench.free(...biases);
    this.#bench.free(norm, nextNorm, buffers.attention, buffers.residual, ...buffers.y, buffers.gated);
  }

  #chain(
    { shape, linears, norm, nextNorm }: Layer,
    { attention, residual, y }: Buffers,
    {
      after = true,
      next = true,
      overlap = false,
      flying,
    }: { after?: boolean; next?: boolean; overlap?: boolean; flying?: number },
  ): void {
    const of = { bits: 4, group: 128, ...shape, next: next ? shape.next : [] } as const;
    const launch = chainLaunch(of, this.#gpu.card, flying === undefined ? {} : { flying });
    if (launch === null) throw new Error(`${JSON.stringify(shape)} has no chain on this card`);
    const layer = placesOf({ shape, linears, norm, nextNorm });
    const parameters = chainParameters(
      ...([launch, of, { residual, eps: EPS, ...this.#packets }, { attention, y }] as const),
      after ? layer : null,
      next ? layer : null,
    );
    const { name, grid, block, shared } = launch;
    this.#bench.launch({ family: "linear_chain", name, grid: [grid], block, shared, parameters, overlap, together: true });
  }

  /** One token through whole layers. */
  #whole(layers: readonly Layer[], { residual }: Buffers, caches: readonly bigint[]): void {
    const { shape } = layers[0]!;
    const of = { bits: 4, group: 128, ...shape } as const;
    const heads = headsOf(shape);
    const launch = chainLaunch(of, this.#gpu.card, { heads })!;
    const input = this.#input!;
    const parameters = chainLayersParameters(
      ...([launch, of, { residual, eps: EPS, ...this.#packets }] as const),
      { shape: heads, table: input + 4096n, position: input, headEps: 0, ...this.#headPackets },
      layers.map((layer, i) => ({
        ...placesOf(layer),
        ...{ kCache: caches[2 * i]!, vCache: caches[2 * i + 1]!, pages: input + 256n },
      })),
    );
    const { name, grid, block, shared } = launch;
    this.#bench.launch({ family: "chain_layers", name, grid: [grid], block, shared, parameters, overlap: true, together: true });
  }

  #apart({ linears, norm, nextNorm }: Layer, { attention, residual, y, gated }: Buffers, next: boolean, overlap = false): void {
    const [o, mlp, down, following] = linears as [ChainLinear, ChainLinear, ChainLinear, ChainLinear];
    this.#stream(o, { x: attention, y: [residual], residual }, overlap);
    this.#stream(mlp, { x: residual, y: [gated, 0n], norm, silu: true }, overlap);
    this.#stream(down, { x: gated, y: [residual], residual }, overlap);
    if (next) this.#stream(following, { x: residual, y, norm: nextNorm }, overlap);
  }

  #stream(
    { weights, biases, outputs, inputs }: ChainLinear,
    of: { x: bigint; y: readonly bigint[]; residual?: bigint; norm?: bigint; silu?: boolean },
    overlap: boolean,
  ): void {
    const shape = { bits: 4, group: 128, rows: 1, inputs, outputs, silu: of.silu ?? false } as const;
    const { name, grid, block, shared, slab, stages } = streamLaunch(shape, this.#gpu.card);
    const [n0 = 0, n1 = 0, n2 = 0] = outputs;
    const parameters = writeParameters(STREAM, {
      ...{ weights0: weights[0]!, weights1: weights[1] ?? 0n, weights2: weights[2] ?? 0n },
      ...{ bias0: biases[0]!, bias1: biases[1] ?? 0n, bias2: biases[2] ?? 0n },
      ...{ y0: of.y[0]!, y1: of.y[1] ?? 0n, y2: of.y[2] ?? 0n, x: of.x, norm: of.norm ?? 0n, permutation: 0n },
      ...{ residual: of.residual ?? 0n, n0, n1, n2, ldy0: n0, ldy1: n1, ldy2: n2, m: 1, k: paddedInputs(inputs) },
      ...{ kValid: inputs, ldx: inputs, yIsF32: of.residual === undefined ? 0 : 1, silu: of.silu ? 1 : 0, slab, stages },
      ...{ eps: EPS, unused: 0 },
    });
    this.#bench.launch({ family: "linear_stream", name, grid: [grid], block, shared, parameters, overlap });
  }
}

const MOST_KEYS = 8192;
const KEYS = [1, 120, 250, 500, 1000, 1920, MOST_KEYS];

function headsOf({ attention, next }: Shape): ChainHeads {
  return chainHeads({ heads: attention / 128, kvHeads: next[1]! / 128, headDim: 128 })!;
}

function placesOf({ linears, norm, nextNorm }: Layer): ChainLayerPlaces {
  const of = (i: number) => [linears[i]!.weights, linears[i]!.biases] as const;
  const [[o], [oBias]] = of(0) as readonly [readonly [bigint], readonly [bigint]];
  const [[gate, up], [gateBias, upBias]] = of(1) as readonly [readonly [bigint, bigint], readonly [bigint, bigint]];
  const [[down], [downBias]] = of(2) as readonly [readonly [bigint], readonly [bigint]];
  const [[q, k, v], [qBias, kBias, vBias]] = of(3) as readonly [
    readonly [bigint, bigint, bigint],
    readonly [bigint, bigint, bigint],
  ];
  return {
    ...{ o, gate, up, down, q, k, v, oBias, gateBias, upBias, downBias, qBias, kBias, vBias },
    ...{ inNorm: nextNorm, norm, qNorm: 0n, kNorm: 0n, kCache: 0n, vCache: 0n, pages: 0n, window: 0, unused: 0 },
  };
}

runSections(
  (gpu) => new ChainChecks(gpu),
  {
    check: (checks) => checks.check(),
    repeat: (checks) => checks.repeat(),
    time: (checks) => checks.time(["7b", "13b"]),
    ...Object.fromEntries(Object.keys(SHAPES).map((name) => [name, (checks: ChainChecks) => checks.time([name])])),
  },
  ["check", "repeat", "time"],
);
