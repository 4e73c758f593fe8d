// What linears of 17 to 128 tokens take on Hopper by how their slices are dealt out: in runs to so many blocks, or those of a unit to
// a cluster of so many. `>` is what is chosen: by costs (batch-cut.ts) that were fitted to what is printed here (bench/NOTES.md).
// Runs on a machine with a GPU: `node dist/gpu/batch-cuts.js [7b] [8b] [13b] [70b] [few]`.

import type { DeviceContext } from "../../src/backend/cuda/cards/device-context.js";
import { type BatchCut, MOST_CLUSTER } from "../../src/backend/cuda/linears/batch-cut.js";
import { mostWgmmaPieceBytes, wgmmaBatchLaunch } from "../../src/backend/cuda/linears/batch-launch-wgmma.js";
import { batchParameters } from "../../src/backend/cuda/linears/tensor-map.js";
import { KernelBench } from "./kernel-bench.js";
import { quantizedWeights } from "./random-weights.js";
import { runSections } from "./run-sections.js";

type Role = "qkv" | "o" | "gate-up" | "down";
interface Linear {
  readonly model: string;
  readonly role: Role;
  readonly inputs: number;
  readonly outputs: readonly number[];
}

const GROUP = 128;
const MOST_ROWS = 128;
/** Weights that the L2 cache has long forgotten when their turn comes again. */
const ROUND_BYTES = 400e6;
const CALLS = 32;

class BatchCuts {
  readonly failures = 0;
  readonly #bench: KernelBench;
  readonly #gpu: DeviceContext;
  readonly #pieces: bigint;

  constructor(gpu: DeviceContext) {
    this.#bench = new KernelBench(gpu);
    this.#gpu = gpu;
    const bytes = mostWgmmaPieceBytes(MOST_ROWS);
    this.#pieces = gpu.allocate(bytes);
    gpu.fill(this.#pieces, 0xff, bytes);
  }

  model(
    model: string,
    hidden: number,
    keys: number,
    intermediate: number,
    roles: readonly Role[],
    rows: readonly number[],
  ): void {
    const all = [
      { role: "qkv", inputs: hidden, outputs: [hidden, keys, keys] },
      { role: "o", inputs: hidden, outputs: [hidden] },
      { role: "gate-up", inputs: hidden, outputs: [intermediate, intermediate] },
      { role: "down", inputs: intermediate, outputs: [hidden] },
    ] as const;
    for (const linear of all) if (roles.includes(linear.role)) this.#times({ model, ...linear }, rows);
  }

  #times(linear: Linear, rows: readonly number[]): void {
    const { model, role, inputs, outputs } = linear;
    const bench = this.#bench;
    const parts = outputs.map((n) => quantizedWeights(bench, 4, GROUP, inputs, n, 1 / 300));
    const bytes = parts.reduce((sum, part) => sum + part.bytes, 0);
    const copies = Math.max(2, Math.ceil(ROUND_BYTES / bytes));
    const weights = this.#gpu.allocate(copies * bytes);
    for (let copy = 0, to = weights; copy < copies; copy++)
      for (const part of parts) {
        this.#gpu.copyInside(to, part.at, part.bytes);
        to += BigInt(part.bytes);
      }
    this.#gpu.synchronize();
    bench.free(...parts.map(({ at }) => at));
    const x = bench.halves(MOST_ROWS * inputs, 1);
    const y = this.#gpu.allocate(MOST_ROWS * Math.max(...outputs) * 4);
    for (const m of rows) {
      const shape = shapeOf(linear, m);
      const { grid, cluster } = wgmmaBatchLaunch(shape, this.#gpu.card, true)!;
      const chosen = nameOf(cluster ? { cluster } : { runs: grid });
      const cells = cutsOf(shape, this.#gpu.card.multiprocessors).map((cut) => {
        const run = (call: number) => {
          let at = weights + BigInt((call % copies) * bytes);
          const places = parts.map((part) => {
            at += BigInt(part.bytes);
            return at - BigInt(part.bytes);
          });
          this.#run(linear, m, cut, places, x, y);
        };
        const us = bench.timedGraph(CALLS, run) * 1e3;
        return `${nameOf(cut) === chosen ? ">" : ""}${nameOf(cut)} ${us.toFixed(1)}`;
      });
      console.log(`${model} ${role} ${m}: ${cells.join(" ")}`);
    }
    bench.free(weights, x, y);
  }

  #run(linear: Linear, m: number, cut: BatchCut, weights: readonly bigint[], x: bigint, y: bigint): void {
    const { role, inputs, outputs } = linear;
    const adds = role === "o" || role === "down";
    const shape = shapeOf(linear, m);
    const { paired } = shape;
    const launch = wgmmaBatchLaunch(shape, this.#gpu.card, true, cut);
    if (!launch) throw new Error(`${role} of ${m} tokens has no launch on this card`);
    const { family, name, grid, cluster, block, shared, tokens, units } = launch;
    const [n0 = 0, n1 = 0, n2 = 0] = outputs;
    const [weights0 = 0n, weights1 = 0n, weights2 = 0n] = weights;
    const parameters = batchParameters(this.#gpu.driver, tokens, x, {
      ...{ weights0, weights1, weights2, bias0: 0n, bias1: 0n, bias2: 0n },
      ...{ y0: y, y1: y, y2: y, residual: adds ? y : 0n, pieces: this.#pieces },
      ...{ n0, n1, n2, m, k: inputs, silu: paired ? 1 : 0, units, ordered: paired ? 1 : 0, unused: 0n },
    });
    this.#bench.launch({ family, name, grid: [grid], cluster, block, shared, parameters });
  }

  /** How many clusters of 1, 2, … blocks run at once. */
  clusters(): void {
    for (const rows of [32, 64, 128]) {
      const counts = Array.from({ length: MOST_CLUSTER }, (_, i) => {
        const shape = { bits: 4, group: GROUP, rows, inputs: 4096, outputs: [4096] } as const;
        const { family, name, shared, block } = wgmmaBatchLaunch(shape, this.#gpu.card, true, { cluster: i + 1 })!;
        const kernel = this.#gpu.kernels.get(family, name, shared);
        return this.#gpu.launcher.clustersAtOnce({ kernel, name, grid: [i + 1], cluster: i + 1, block, shared });
      });
      console.log(`clusters of 1 to ${MOST_CLUSTER} at once, ${rows} tokens: ${counts.join(" ")}`);
    }
  }
}

function shapeOf({ role, inputs, outputs }: Linear, rows: number) {
  return { bits: 4, group: GROUP, rows, inputs, outputs, paired: role === "gate-up" } as const;
}

const nameOf = (cut: BatchCut) => ("cluster" in cut ? `c${cut.cluster}` : `r${cut.runs}`);

/** All blocks that run at once; whole numbers of blocks to a unit, from a quarter of all on. */
function cutsOf(shape: ReturnType<typeof shapeOf>, multiprocessors: number): BatchCut[] {
  const { units } = wgmmaBatchLaunch(shape, { multiprocessors, major: 9, minor: 0 })!;
  const most = multiprocessors * (shape.rows > 64 ? 1 : 2);
  const slices = shape.inputs / 256;
  const ways = Array.from({ length: MOST_CLUSTER }, (_, i) => i + 1).filter(
    (n) => n <= slices && n * units <= most && n * 4 * units >= most,
  );
  const runs = [...new Set([Math.min(most, units * slices), ...ways.map((n) => n * units)])];
  return [...runs.map((runs) => ({ runs })), ...ways.map((cluster) => ({ cluster }))];
}

const BATCHES = [64, 128];
runSections(
  (gpu) => new BatchCuts(gpu),
  {
    clusters: (cuts) => cuts.clusters(),
    "7b": (cuts) => cuts.model("7b", 4096, 4096, 11008, ["o", "down"], BATCHES),
    "8b": (cuts) => cuts.model("8b", 4096, 1024, 14336, ["qkv", "down"], BATCHES),
    "13b": (cuts) => cuts.model("13b", 5120, 5120, 13824, ["o", "down"], BATCHES),
    "70b": (cuts) => cuts.model("70b", 8192, 1024, 28672, ["qkv", "o", "down"], BATCHES),
    few: (cuts) => cuts.model("7b", 4096, 4096, 11008, ["o", "down"], [32, 40]),
    many: (cuts) => cuts.model("7b", 4096, 4096, 11008, ["qkv", "gate-up"], BATCHES),
    tiny: (cuts) => cuts.model("1.1b", 2048, 256, 5632, ["qkv", "o", "gate-up", "down"], BATCHES),
  },
  ["clusters", "7b", "8b", "13b", "70b", "few", "many", "tiny"],
);
