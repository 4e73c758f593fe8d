// Layers of random weights without attention (q is o's x), through the engine's own launches: norms in launches of their own,
// put off, or put off and begun anew in every layer.

import { KernelQueue } from "../../src/backend/cuda/launch/kernel-queue.js";
import { writeParameters } from "../../src/backend/cuda/launch/parameter-layout.js";
import { deferredPlaces, mostWgmmaPieceBytes } from "../../src/backend/cuda/linears/batch-launch-wgmma.js";
import { DEFERRED_NORM_LAUNCH } from "../../src/backend/cuda/linears/batch-layouts.js";
import { deferredScratchBytes } from "../../src/backend/cuda/linears/deferred-norms.js";
import { type BatchResult, type DeferredInput, runBatch } from "../../src/backend/cuda/linears/run-batch.js";
import { runNorm } from "../../src/backend/cuda/linears/run-norm.js";
import type { PlacedLinear } from "../../src/backend/cuda/steps/stage.js";
import type { KernelGroup } from "../../src/backend/cuda/weights/quantized-layout.js";
import type { KernelBench } from "./kernel-bench.js";
import { copyOf, randomLinear } from "./random-weights.js";

export interface LayerShape {
  readonly hidden: number;
  readonly intermediate: number;
  /** Outputs of k and v. */
  readonly keys: number;
  readonly group: KernelGroup;
}

/** In launches of their own; put off; put off, and begun anew in every layer with the factors that came with the residual stream. */
export type NormsOf = "apart" | "deferred" | "cut";

interface Layer {
  readonly norms: { readonly input: bigint; readonly postAttention: bigint };
  readonly qkv: readonly PlacedLinear[];
  readonly o: PlacedLinear;
  readonly gateUp: readonly PlacedLinear[];
  readonly down: PlacedLinear;
}

const EPS = 1e-5;
const MOST_ROWS = 16;
const PIECES = mostWgmmaPieceBytes(MOST_ROWS);

export class NormedLayers {
  readonly shape: LayerShape;
  readonly #bench: KernelBench;
  readonly #layers: readonly Layer[];
  readonly #taken: bigint[] = [];
  readonly #residual: bigint;
  readonly #normed: bigint;
  readonly #block: bigint;
  readonly #squares: bigint;
  /** Of a layer's second norm. */
  readonly #factors: bigint;
  readonly #pieces: bigint;

  /** @param kinds so many layers have contents of their own, the others copies of theirs; default: all */
  constructor(bench: KernelBench, shape: LayerShape, count: number, kinds = count) {
    this.shape = shape;
    this.#bench = bench;
    const { gpu } = bench;
    const { hidden, intermediate, keys } = shape;
    const take = (bytes: number) => {
      const at = gpu.allocate(bytes);
      this.#taken.push(at);
      return at;
    };
    const made: Layer[] = [];
    for (let i = 0; i < count; i++) {
      const from = i < kinds ? null : made[i % kinds]!;
      made.push(from ? this.#copied(from) : this.#made());
    }
    this.#layers = made;
    this.#residual = take(MOST_ROWS * hidden * 4);
    this.#normed = take(MOST_ROWS * hidden * 2);
    this.#block = take(MOST_ROWS * Math.max(intermediate, hidden + 2 * keys) * 2);
    this.#squares = take(deferredScratchBytes(hidden));
    this.#factors = take(MOST_ROWS * 4);
    this.#pieces = take(PIECES);
    gpu.fill(this.#pieces, 0xff, PIECES);
    gpu.synchronize();
  }

  free(): void {
    this.#bench.free(...this.#taken);
  }

  /** The residual stream, f32 [rows, hidden], behind the first `count` layers. */
  through(before: Float32Array, rows: number, count: number, norms: NormsOf): Float32Array {
    return this.#after(before, rows, () => this.#run(rows, count, norms, false));
  }

  /** The same by a graph whose kernels overlap. */
  captured(before: Float32Array, rows: number, count: number, norms: NormsOf): Float32Array {
    const graph = this.graph(rows, count, norms);
    const after = this.#after(before, rows, () => this.#bench.gpu.launchGraph(graph));
    this.#bench.gpu.destroyGraph(graph);
    return after;
  }

  graph(rows: number, count: number, norms: NormsOf): bigint {
    this.#run(rows, count, norms, false); // loads the kernels, which a capture cannot
    return this.#bench.gpu.capture(() => this.#run(rows, count, norms, true));
  }

  #after(before: Float32Array, rows: number, run: () => void): Float32Array {
    const { gpu } = this.#bench;
    gpu.copyIn(this.#residual, before);
    gpu.fill(this.#normed, 0xff, MOST_ROWS * this.shape.hidden * 2);
    gpu.fill(this.#block, 0xff, rows * 2);
    gpu.fill(this.#squares, 0xff, deferredScratchBytes(this.shape.hidden));
    gpu.fill(this.#factors, 0xff, MOST_ROWS * 4);
    run();
    return this.#bench.download(this.#residual, rows * this.shape.hidden);
  }

  #run(rows: number, count: number, norms: NormsOf, overlap: boolean): void {
    const queue = new KernelQueue(this.#bench.gpu, overlap);
    for (const [i, layer] of this.#layers.slice(0, count).entries()) this.#layer(queue, layer, i, count, rows, norms);
  }

  #layer(queue: KernelQueue, layer: Layer, index: number, count: number, rows: number, norms: NormsOf): void {
    const { hidden, keys } = this.shape;
    const next = this.#layers[index + 1];
    const deferred = norms !== "apart";
    const first = this.#squares + BigInt(deferredScratchBytes(hidden) - MOST_ROWS * 4);
    const input = { squares: this.#squares, carried: this.#factors, factors: first, eps: EPS };
    const post = { squares: this.#squares, carried: first, factors: this.#factors, eps: EPS };
    if (!deferred) this.#norm(queue, layer.norms.input, rows);
    else if (index === 0 || norms === "cut") this.#begin(queue, layer.norms.input, rows, index === 0);
    const q = this.#block;
    const k = q + BigInt(rows * hidden * 2);
    const y = [q, k, k + BigInt(rows * keys * 2)];
    this.#multiply(queue, layer.qkv, this.#normed, rows, { kind: "outputs", y }, deferred ? input : undefined);
    const left = (weight: bigint, carried: bigint) => ({ weight, y: this.#normed, squares: this.#squares, carried });
    const same = { kind: "residual", residual: this.#residual, norm: null } as const;
    const o = { ...same, deferred: deferred ? left(layer.norms.postAttention, first) : null };
    this.#multiply(queue, [layer.o], q, rows, o);
    if (!deferred) this.#norm(queue, layer.norms.postAttention, rows);
    this.#multiply(queue, layer.gateUp, this.#normed, rows, { kind: "gated", y: q }, deferred ? post : undefined);
    const goesOn = norms === "deferred" && next !== undefined && index + 1 < count;
    const down = { ...same, deferred: goesOn ? left(next.norms.input, this.#factors) : null };
    this.#multiply(queue, [layer.down], q, rows, down);
  }

  #multiply(
    queue: KernelQueue,
    linears: readonly PlacedLinear[],
    x: bigint,
    rows: number,
    result: BatchResult,
    deferred?: DeferredInput,
  ): void {
    const scratch = { expanded: 0n, expandedBytes: 0, gathered: 0n, pieces: this.#pieces, pieceBytes: PIECES };
    const done = runBatch(queue, linears, { x, rows, role: "", result, deferred }, scratch);
    if (!done) throw new Error(`no kernel for ${linears[0]!.spec.name}`);
  }

  #norm(queue: KernelQueue, weight: bigint, rows: number): void {
    const call = { residual: this.#residual, rows: 0n, count: rows, weight, eps: EPS, y: this.#normed };
    runNorm(queue, this.shape.hidden, { ...call, hiddenState: 0n, ordered: false, role: "norm" });
  }

  #begin(queue: KernelQueue, weight: bigint, rows: number, own: boolean): void {
    const parameters = writeParameters(DEFERRED_NORM_LAUNCH, {
      ...{ residual: this.#residual, weight, y: this.#normed, squares: this.#squares, carried: this.#factors },
      ...{ hidden: this.shape.hidden, places: deferredPlaces(rows)!, own: own ? 1 : 0, eps: EPS },
    });
    queue.run({ family: "pointwise", name: "rms_norm_deferred", grid: [rows], block: 512, parameters });
  }

  #made(): Layer {
    const { hidden, intermediate, keys } = this.shape;
    const norm = () => this.#took(this.#bench.halves(hidden, 0.4));
    const linear = (name: string, inputs: number, outputs: number) => {
      const made = randomLinear(this.#bench, this.shape.group, { name, inputs, outputs });
      this.#took(made.weights);
      return made;
    };
    return {
      norms: { input: norm(), postAttention: norm() },
      qkv: [linear("q", hidden, hidden), linear("k", hidden, keys), linear("v", hidden, keys)],
      o: linear("o", hidden, hidden),
      gateUp: [linear("gate", hidden, intermediate), linear("up", hidden, intermediate)],
      down: linear("down", intermediate, hidden),
    };
  }

  /** The same contents in memory of their own. */
  #copied({ norms, qkv, o, gateUp, down }: Layer): Layer {
    const copy = (linear: PlacedLinear): PlacedLinear => {
      const copied = copyOf(this.#bench, linear);
      this.#took(copied.weights);
      return copied;
    };
    return { norms, qkv: qkv.map(copy), o: copy(o), gateUp: gateUp.map(copy), down: copy(down) };
  }

  #took(at: bigint): bigint {
    this.#taken.push(at);
    return at;
  }
}
