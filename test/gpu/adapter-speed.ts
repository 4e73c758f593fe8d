// What an adapter costs on a card: the two launches of each group of linears of a 7B model, alone in
// a captured graph, by rows and rank.

import { KernelQueue } from "../../src/backend/cuda/launch/kernel-queue.js";
import { runAdapters } from "../../src/backend/cuda/linears/run-adapters.js";
import type { PlacedLinear } from "../../src/backend/cuda/steps/stage.js";
import type { KernelBench } from "./kernel-bench.js";

const GROUPS = {
  qkv: { inputs: 4096, outputs: [4096, 4096, 4096], f32: false },
  o: { inputs: 4096, outputs: [4096], f32: true },
  gateUp: { inputs: 4096, outputs: [11008, 11008], f32: false },
  down: { inputs: 11008, outputs: [4096], f32: true },
} as const;

export function timeAdapters(bench: KernelBench): void {
  for (const rank of [16, 64])
    for (const rows of [1, 8, 32, 512, 2048]) {
      const each = Object.entries(GROUPS).map(([name, group]): [string, number] => [name, timeGroup(bench, group, rows, rank)]);
      const layer = each.reduce((sum, [, us]) => sum + us, 0);
      const parts = each.map(([name, us]) => `${name} ${us.toFixed(1)}`).join(", ");
      console.log(
        `adapters of rank ${rank}, ${rows} rows: ${parts}; a layer ${layer.toFixed(1)} µs, 32 layers ${(layer * 0.032).toFixed(2)} ms`,
      );
    }
}

/** Microseconds. */
function timeGroup(bench: KernelBench, group: (typeof GROUPS)[keyof typeof GROUPS], rows: number, rank: number): number {
  const { gpu } = bench;
  const { inputs, outputs, f32 } = group;
  const queue = new KernelQueue(gpu, true);
  const t = gpu.allocate(rows * rank * outputs.length * 4);
  const weights = bench.upload(Float32Array.of(1));
  const sequence = bench.upload(new Int32Array(rows));
  const x = bench.halves(rows * inputs);
  const y = outputs.map((out) => bench.halves(rows * out * (f32 ? 2 : 1)));
  const factors = outputs.map((out) => ({
    ranks: rank,
    a: bench.halves(rank * inputs, 0.01),
    b: bench.halves(rank * out, 0.01),
    owners: bench.upload(new Int32Array(rank / 8)),
  }));
  const linears = outputs.map((out, i): PlacedLinear => {
    const spec = {
      name: "x",
      in: inputs,
      out,
      bias: false,
      format: { kind: "plain", dtype: "f16" } as const,
      adapterRanks: [rank],
    };
    const none = { storage: { kind: "half" } as const, weights: 0n, weightBytes: 0, permutation: 0n, groupOf: 0n, bias: 0n };
    return { spec, ...none, adapters: factors[i]! };
  });
  const us =
    1000 * bench.timedGraph(20, () => runAdapters(queue, linears, { x, y, rows, f32 }, { t, weights, sequence, adapters: 1 }));
  bench.free(t, weights, sequence, x, ...y, ...factors.flatMap(({ a, b, owners }) => [a, b, owners]));
  return us;
}
