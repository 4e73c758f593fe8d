// Quantised linears of whole prompts as single launches: weights of random codes, the kernels of linear_prompt.cu, and
// what there is to compare them with: plain references, and slabs of expanded weights. For programs that run on a machine with a GPU.

import { randomFillSync } from "node:crypto";
import type { DeviceContext } from "../../src/backend/cuda/cards/device-context.js";
import { writeParameters } from "../../src/backend/cuda/launch/parameter-layout.js";
import { type GemmCard, gemmLaunch } from "../../src/backend/cuda/linears/gemm-launch.js";
import { EXPAND, HALF_LINEAR, LINEAR } from "../../src/backend/cuda/linears/linear-layouts.js";
import type { PromptLaunch, PromptShape } from "../../src/backend/cuda/linears/prompt-launch.js";
import { gemmParameters, type PromptValues, promptParameters } from "../../src/backend/cuda/linears/tensor-map.js";
import { SILU_MUL } from "../../src/backend/cuda/steps/pointwise-layouts.js";
import {
  type KernelGroup,
  SUPERBLOCK,
  superblockBytes,
  TILE_ROWS,
  tileBytes,
} from "../../src/backend/cuda/weights/quantized-layout.js";
import { fromHalfBits, toHalfBits } from "../support/element-types.js";
import { KernelBench } from "./kernel-bench.js";

/** What is launched: linears of one x. */
export interface PromptLinearsCall extends PromptValues {
  readonly shape: PromptShape;
}

/** Without biases. */
export function promptCall(
  x: bigint,
  shape: PromptShape,
  form: 0 | 1 | 2,
  linears: readonly (readonly [weights: bigint, y: bigint])[],
): PromptLinearsCall {
  const { rows, inputs, outputs, silu } = shape;
  return {
    ...{ x, rows, inputs, form, silu, shape },
    linears: linears.map(([weights, y], i) => ({ weights, bias: 0n, outputs: outputs[i]!, y })),
  };
}

export class PromptLinears {
  readonly bench: KernelBench;
  readonly card: GemmCard;
  readonly #gpu: DeviceContext;

  constructor(gpu: DeviceContext) {
    this.bench = new KernelBench(gpu);
    this.card = gpu.card;
    this.#gpu = gpu;
  }

  launch({ tokens, piece, ...launch }: PromptLaunch, call: PromptLinearsCall): void {
    const parameters = promptParameters(this.#gpu.driver, { tokens, piece, cluster: launch.cluster }, call);
    this.bench.launch({ family: "linear_prompt", ...launch, parameters });
  }

  /** In plain f32, from the weights as they are stored or as slabs have them; gated in f16 as the kernels do. */
  reference({ x, rows, inputs, silu, linears, shape: { group } }: PromptLinearsCall, from: "quantized" | "half"): Float32Array {
    const bench = this.bench;
    const parts = linears.map(({ weights, bias, outputs }) => {
      const y = this.#gpu.allocate(rows * outputs * 4);
      const grid = [Math.ceil(outputs / 256), rows] as const;
      const shared = { x, bias, residual: 0n, y, m: rows, n: outputs, k: inputs, ldx: inputs, ldy: outputs, yIsF32: 1 };
      if (from === "quantized") {
        const parameters = writeParameters(LINEAR, { ...shared, weights, permutation: 0n, kValid: inputs, zeroOffset: 0 });
        bench.launch({ family: "linear_quantized", name: `linear_q4_g${group}_ref`, grid, block: 256, parameters });
      } else {
        const expanded = this.#gpu.allocate(roundUp(outputs, 16) * inputs * 2);
        this.#expand(group, inputs, outputs, weights, expanded);
        const parameters = writeParameters(HALF_LINEAR, { ...shared, weights: expanded });
        bench.launch({ family: "linear_half", name: "linear_half_ref", grid, block: 256, parameters });
        this.#gpu.synchronize();
        bench.free(expanded);
      }
      const part = bench.download(y, rows * outputs);
      bench.free(y);
      return part;
    });
    if (silu) {
      const half = (value: number) => fromHalfBits(toHalfBits(value));
      return parts[0]!.map((value, i) => (half(value) / (1 + Math.exp(-half(value)))) * half(parts[1]![i]!));
    }
    const all = new Float32Array(parts.reduce((sum, part) => sum + part.length, 0));
    let at = 0;
    for (const part of parts) {
      all.set(part, at);
      at += part.length;
    }
    return all;
  }

  /** The same by slabs of expanded weights; gate and up beside each other where silu. */
  slabs({ x, rows, inputs, form, silu, linears, shape: { group } }: PromptLinearsCall, expanded = 0n): void {
    const buffer = expanded || this.#gpu.allocate(Math.max(...linears.map(({ outputs }) => roundUp(outputs, 16))) * inputs * 2);
    const apart = silu ? linears.map(({ outputs }) => this.#gpu.allocate(rows * outputs * 2)) : null;
    linears.forEach(({ weights, bias, outputs, y: at }, i) => {
      const y = apart ? apart[i]! : at;
      this.#expand(group, inputs, outputs, weights, buffer);
      const launch = gemmLaunch(this.card, { m: rows, n: outputs });
      const values = {
        weights: buffer,
        x,
        bias,
        residual: form === 2 ? y : 0n,
        y,
        m: rows,
        n: outputs,
        k: inputs,
        ldx: inputs,
        ldy: outputs,
      };
      const parameters = gemmParameters(this.#gpu.driver, launch, { ...values, yIsF32: form ? 1 : 0 });
      this.bench.launch({ family: "linear_half", ...launch, parameters });
    });
    if (apart) this.silu(apart[0]!, apart[1]!, linears[0]!.y, rows * linears[0]!.outputs);
    if (expanded === 0n) {
      this.#gpu.synchronize();
      this.bench.free(buffer, ...(apart ?? []));
    }
  }

  silu(gate: bigint, up: bigint, y: bigint, count: number): void {
    const parameters = writeParameters(SILU_MUL, { gate, up, y, count: BigInt(count) });
    const grid = [Math.max(1, Math.min(4096, Math.ceil(count / 8 / 256)))] as const;
    this.bench.launch({ family: "pointwise", name: "silu_mul", grid, block: 256, parameters });
  }

  #expand(group: KernelGroup, inputs: number, outputs: number, weights: bigint, expanded: bigint): void {
    const tiles = Math.ceil(outputs / TILE_ROWS);
    this.bench.launch({
      family: "linear_half",
      name: `expand_q4_g${group}`,
      grid: [Math.ceil(inputs / 512), tiles],
      block: 256,
      parameters: writeParameters(EXPAND, {
        weights,
        expanded,
        firstTile: 0,
        tiles,
        k: inputs,
        ld: inputs,
        zeroOffset: 0,
        unused: 0,
      }),
    });
  }

  /** Of random codes and zeros, scales around `scale`. */
  weights(group: KernelGroup, inputs: number, outputs: number, scale: number, copies = 1): bigint {
    const tile = tileBytes(4, group, inputs);
    const data = new Uint8Array(Math.ceil(outputs / TILE_ROWS) * tile);
    randomFillSync(data);
    const scales = Array.from({ length: 16 }, (_, i) => toHalfBits(scale * (0.5 + ((i * 7) % 16) / 16)));
    const view = new DataView(data.buffer);
    for (let begin = 0; begin < data.length; begin += tile)
      for (let k = 0, at = begin; k < inputs; k += SUPERBLOCK) {
        const size = Math.min(SUPERBLOCK, inputs - k);
        const table = at + (size * TILE_ROWS) / 2;
        for (let i = 0; i < Math.ceil(size / group) * TILE_ROWS; i++)
          view.setUint16(table + 2 * i, scales[(i + begin / tile) % 16]!, true);
        at += superblockBytes(4, group, size);
      }
    const at = this.#gpu.allocate(data.length * copies);
    for (let copy = 0; copy < copies; copy++) this.#gpu.copyIn(at + BigInt(copy * data.length), data);
    this.#gpu.synchronize();
    return at;
  }
}

function roundUp(value: number, to: number): number {
  return Math.ceil(value / to) * to;
}
