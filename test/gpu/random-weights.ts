// Quantised linears with random contents, in the order in which the kernels read them, for programs that run single kernels.

import { randomFillSync } from "node:crypto";
import type { PlacedLinear } from "../../src/backend/cuda/steps/stage.js";
import {
  type KernelGroup,
  paddedInputs,
  SUPERBLOCK,
  superblockBytes,
  TILE_ROWS,
  tileBytes,
} from "../../src/backend/cuda/weights/quantized-layout.js";
import { toHalfBits } from "../support/element-types.js";
import type { KernelBench } from "./kernel-bench.js";

export type Bits = 2 | 3 | 4 | 8;

export interface Weights {
  readonly at: bigint;
  readonly bytes: number;
}

/** New memory with one linear of random codes and zeros, scales around `scale`. */
export function quantizedWeights(
  bench: KernelBench,
  bits: Bits,
  group: KernelGroup,
  inputs: number,
  outputs: number,
  scale: number,
): Weights {
  const k = paddedInputs(inputs);
  const tile = tileBytes(bits, group, inputs);
  const data = new Uint8Array(Math.ceil(outputs / TILE_ROWS) * tile);
  for (let at = 0; at < data.length; at += 1 << 30) randomFillSync(data, at, Math.min(1 << 30, data.length - at));
  const view = new DataView(data.buffer);
  for (let begin = 0; begin < data.length; begin += tile)
    for (let sb = 0, at = begin; sb < k; sb += SUPERBLOCK) {
      const size = Math.min(SUPERBLOCK, k - sb);
      const scales = at + (size * TILE_ROWS * bits) / 8;
      for (let i = 0; i < Math.ceil(size / group) * TILE_ROWS; i++)
        view.setUint16(scales + 2 * i, toHalfBits(scale * (0.5 + ((i * 7) % 16) / 16)), true);
      at += superblockBytes(bits, group, size);
    }
  return { at: bench.upload(data), bytes: data.length };
}

/** A linear of 4 bits with such weights in new memory, without a bias: results about as large as x. */
export function randomLinear(
  bench: KernelBench,
  group: KernelGroup,
  { name, inputs, outputs }: { name: string; inputs: number; outputs: number },
): PlacedLinear {
  const { at, bytes } = quantizedWeights(bench, 4, group, inputs, outputs, 1 / (7 * Math.sqrt(inputs)));
  const format = { kind: "gptq", bits: 4, groupSize: group, zeros: "v1", gIdx: false, scaleDtype: "f16" } as const;
  const spec = { name, in: inputs, out: outputs, bias: false, format };
  const none = { permutation: 0n, groupOf: 0n, bias: 0n, adapters: null };
  return { spec, storage: { kind: "quantized", format, group }, weights: at, weightBytes: bytes, ...none };
}

/** The same contents in memory of their own. */
export function copyOf({ gpu }: KernelBench, linear: PlacedLinear): PlacedLinear {
  const weights = gpu.allocate(linear.weightBytes);
  gpu.copyInside(weights, linear.weights, linear.weightBytes);
  return { ...linear, weights };
}

export function shuffled(count: number): Int32Array<ArrayBuffer> {
  const order = Int32Array.from({ length: count }, (_, i) => i);
  for (let i = count - 1; i > 0; i--) {
    const j = Math.floor(Math.random() * (i + 1));
    [order[i], order[j]] = [order[j] as number, order[i] as number];
  }
  return order;
}
