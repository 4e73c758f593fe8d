// Norms that are put off (kernels/deferred_norm.cuh) in layers without attention: against launches of their own, repeats and
// cuts bit by bit, and times of both in captured graphs. Runs on a machine with a Hopper card: `node dist/gpu/norm-checks.js [check] [time]`.

import type { DeviceContext } from "../../src/backend/cuda/cards/device-context.js";
import { hasWgmma } from "../../src/backend/cuda/linears/gemm-launch.js";
import type { KernelGroup } from "../../src/backend/cuda/weights/quantized-layout.js";
import { differenceOf, noise } from "./differences.js";
import { KernelBench } from "./kernel-bench.js";
import { type LayerShape, NormedLayers, type NormsOf } from "./normed-layers.js";
import { runSections } from "./run-sections.js";

const LLAMA_7B: LayerShape = { hidden: 4096, intermediate: 11008, keys: 4096, group: 128 };
/** Outputs that are no multiple of a unit, and a stream of another width. */
const shapes = (group: KernelGroup): LayerShape[] => [
  { hidden: 1024, intermediate: 2816, keys: 256, group },
  { hidden: 5120, intermediate: 1792, keys: 264, group },
  { hidden: 8192, intermediate: 1024, keys: 128, group },
];
const CHECKED_LAYERS = 4;
const ROWS = [5, 8, 9, 16];
/** Of the stream's deviation: both ways round x to f16, at other places. */
const MEAN_BOUND = 2e-3;

class NormChecks {
  readonly #bench: KernelBench;

  constructor(gpu: DeviceContext) {
    this.#bench = new KernelBench(gpu);
  }

  get failures(): number {
    return this.#bench.failures;
  }

  check(): void {
    for (const group of [32, 64, 128] as const)
      for (const shape of shapes(group)) {
        const layers = new NormedLayers(this.#bench, shape, CHECKED_LAYERS);
        for (const rows of ROWS) for (const size of [1, 1e-3, 1e4]) this.#compare(layers, rows, size, JSON.stringify(shape));
        layers.free();
      }
    console.log(this.failures === 0 ? "all agree" : `${this.failures} comparisons FAILED`);
  }

  /** @param size deviation of the residual stream at first */
  #compare(layers: NormedLayers, rows: number, size: number, shape: string): void {
    const what = `${rows} rows of ${size} through ${shape}`;
    const before = noise(rows * layers.shape.hidden, size);
    const run = (norms: NormsOf) => layers.through(before, rows, CHECKED_LAYERS, norms);
    const [apart, deferred] = [run("apart"), run("deferred")];
    const [mean, worst] = differenceOf(deferred, apart);
    if (!(mean <= MEAN_BOUND) || !(worst <= 30 * MEAN_BOUND))
      this.#bench.fail(`${what}: differs by ${mean} of the deviation, ${worst} at most`);
    this.#bench.same(`${what}, again`, run("deferred"), deferred);
    // Every layer begun anew, as a stage begins.
    this.#bench.same(`${what}, cut between layers`, run("cut"), deferred);
    // A captured graph, whose kernels overlap.
    for (let i = 0; i < 3; i++)
      this.#bench.same(`${what}, captured`, layers.captured(before, rows, CHECKED_LAYERS, "deferred"), deferred);
    if (!deferred.every((value) => Number.isFinite(value))) this.#bench.fail(`${what}: some are no numbers`);
  }

  /** A 7B's layers without attention, µs per layer, in alternation. */
  time(): void {
    const count = 32;
    const layers = new NormedLayers(this.#bench, LLAMA_7B, count, 1);
    console.log(
      "us per layer of a 7B without attention: norms apart, put off (three rounds each, in turn); difference of medians",
    );
    for (const rows of [5, 8, 12, 16]) {
      layers.through(noise(rows * LLAMA_7B.hidden), rows, 1, "apart"); // a residual stream of numbers to begin with
      const ways = (["apart", "deferred"] as const).map((norms) => layers.graph(rows, count, norms));
      const us: number[][] = [[], []];
      for (let round = 0; round < 3; round++)
        ways.forEach((graph, i) => {
          us[i]!.push((this.#bench.timed(4, () => this.#bench.gpu.launchGraph(graph)) * 1e3) / count);
        });
      for (const graph of ways) this.#bench.gpu.destroyGraph(graph);
      const [apart, deferred] = us.map((each) => [...each].sort((a, b) => a - b)[1]!) as [number, number];
      const cells = us.map((each) => each.map((value) => value.toFixed(2)).join(" "));
      console.log(`${String(rows).padStart(3)} rows: ${cells.join(" | ")}; ${(apart - deferred).toFixed(2)} less`);
    }
    layers.free();
  }
}

function checksOn(gpu: DeviceContext): NormChecks {
  if (!hasWgmma(gpu.card)) throw new Error("norms are put off on Hopper only");
  return new NormChecks(gpu);
}

runSections(checksOn, { check: (checks) => checks.check(), time: (checks) => checks.time() }, ["check", "time"]);
