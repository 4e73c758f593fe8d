// Times of the linears of whole prompts, of every width of tile and cut of k beside what is chosen. Part of prompt-checks.ts.

import {
  fitsCut,
  PROMPT_CUTS,
  PROMPT_TOKENS,
  type PromptLaunch,
  type PromptShape,
  promptLaunch,
  promptLaunchOf,
} from "../../src/backend/cuda/linears/prompt-launch.js";
import { TILE_ROWS, tileBytes } from "../../src/backend/cuda/weights/quantized-layout.js";
import { type PromptLinears, promptCall } from "./prompt-linears.js";

/** µs of the linears of a layer as a step has them: q, k, v in one; o and down added to the residual stream; gate and up gated. */
export function timeLayer(
  linears: PromptLinears,
  model: string,
  hidden: number,
  inner: number,
  rows: number,
  widths: boolean,
): void {
  const group = 128;
  const { bench, card } = linears;
  const copies = Math.ceil(120e6 / (hidden * inner * 0.52));
  const x = bench.halves(rows * inner, 1);
  const y = bench.gpu.allocate(rows * inner * 4);
  const expanded = bench.gpu.allocate(inner * hidden * 2);
  const parts = [
    ["qkv", [hidden, hidden, hidden], hidden, 0, false],
    ["o", [hidden], hidden, 2, false],
    ["o f16", [hidden], hidden, 0, false],
    ["gate-up", [inner, inner], hidden, 0, true],
    ["gate, up", [inner, inner], hidden, 0, false],
    ["down", [hidden], inner, 2, false],
    ["down f16", [hidden], inner, 0, false],
  ] as const;
  for (const [what, outputs, inputs, form, silu] of parts) {
    const shape: PromptShape = { rows, inputs, outputs, group, silu };
    const bytes = (outputs[0] / TILE_ROWS) * tileBytes(4, group, inputs);
    const weights = linears.weights(group, inputs, outputs[0], 0.004, copies);
    const out = (i: number) => y + BigInt((i % 2) * rows * outputs[0] * 2);
    const call = (i: number) =>
      promptCall(
        x,
        shape,
        form,
        outputs.map((_, j) => [weights + BigInt(((i + j) % copies) * bytes), form === 2 ? y : out(j)]),
      );
    const flops = 2 * rows * inputs * outputs.reduce((sum: number, n) => sum + n, 0);
    const speed = (ms: number) => `${(ms * 1e3).toFixed(0)} us ${(flops / ms / 1e9).toFixed(0)}`;
    const chosen = promptLaunch(card, shape);
    const others = PROMPT_TOKENS.map((tokens) => promptLaunchOf(card, shape, { tokens, cut: 1 }));
    const times = [chosen, ...(widths ? others : [])].map((launch) => {
      const ms = bench.timedGraph(12, (i) => linears.launch(launch, call(i)));
      return `${launch === chosen ? "*" : ""}${briefly(launch)} ${speed(ms)}`;
    });
    const slabs = bench.timedGraph(12, (i) => {
      linears.slabs({ ...call(i), silu: false }, expanded);
      if (silu) linears.silu(out(0), out(1), out(0), rows * outputs[0]);
    });
    console.log(`${model} ${rows} ${what.padEnd(9)} ${times.join("  ").padEnd(20)}  slabs ${speed(slabs)} TFLOP/s`);
    bench.free(weights);
  }
  bench.free(x, y, expanded);
}

/** µs of linears that have few tiles, by the parts of k: without a cut by tiles of 128 tokens, and by tiles as wide as the prompt. */
export function timeCuts(linears: PromptLinears): void {
  const { bench, card } = linears;
  const few = [129, 160, 192, 256];
  for (const [what, inputs, outputs, form, prompts] of [
    ["7b o", 4096, [4096], 2, [...few, 384, 512]],
    ["7b down", 11008, [4096], 2, [...few, 384, 512]],
    ["13b o", 5120, [5120], 2, few],
    ["13b down", 13824, [5120], 2, few],
    ["8b qkv", 4096, [4096, 1024, 1024], 0, [160, 256]],
    ["70b o", 8192, [8192], 2, [160, 256]],
    ["70b down", 28672, [8192], 2, [160, 256]],
    ["1b qkv", 2048, [2048, 256, 256], 0, [160, 256]],
  ] as const) {
    const most = Math.max(...prompts);
    const total = outputs.reduce((sum: number, n) => sum + n, 0);
    const bytes = (total / TILE_ROWS) * tileBytes(4, 128, inputs);
    const copies = Math.ceil(120e6 / bytes);
    const weights = linears.weights(128, inputs, total, 0.004, copies);
    const x = bench.halves(most * inputs, 1);
    const y = bench.gpu.allocate(most * total * 4);
    for (const rows of prompts) {
      const shape: PromptShape = { rows, inputs, outputs, group: 128, silu: false };
      let before = 0;
      const parts = outputs.map((n) => {
        const part = [BigInt((before / TILE_ROWS) * tileBytes(4, 128, inputs)), y + BigInt(before * rows * 4)] as const;
        before += n;
        return part;
      });
      const time = (launch: PromptLaunch) =>
        bench.timedGraph(24, (i) =>
          linears.launch(
            launch,
            promptCall(
              x,
              shape,
              form,
              parts.map(([offset, to]) => [weights + BigInt((i % copies) * bytes) + offset, to] as const),
            ),
          ),
        );
      const chosen = promptLaunch(card, shape);
      const wide = Math.min(...PROMPT_TOKENS.filter((tokens) => tokens >= Math.ceil(rows / Math.ceil(rows / 256))));
      const columns = [128, wide].map((tokens) => {
        const cuts = PROMPT_CUTS.filter((cut) => fitsCut(shape, cut));
        const times = cuts.map((cut) => (time(promptLaunchOf(card, shape, { tokens, cut })) * 1e3).toFixed(1));
        return `t${tokens} ${times.join(" ")}`;
      });
      console.log(`${what} ${rows}: ${columns.join(" | ")} | chosen ${briefly(chosen)}`);
    }
    bench.free(weights, x, y);
  }
}

function briefly({ tokens, cluster }: PromptLaunch): string {
  return cluster === 1 ? `t${tokens}` : `t${tokens}/${cluster}`;
}
