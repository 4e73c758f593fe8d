// The structure that kernels/linear_chain.cu takes: buffers first, then the four linears.

import type { ChainLaunch } from "./chain-launch.js";
import { CHAIN, CHAIN_WEIGHTS, writeParametersAt } from "./kernel-parameters.js";

/** One linear of a chain, or several that share x. */
export interface ChainLinear {
  readonly weights: readonly bigint[];
  /** f16 [outputs], or 0n. */
  readonly biases: readonly bigint[];
  readonly outputs: readonly number[];
  readonly inputs: number;
}

export interface ChainBuffers {
  /** f16 [inputs of o] */
  readonly attention: bigint;
  /** f32 [hidden] */
  readonly residual: bigint;
  /** RMSNorms ahead of gate and up, and of q, k, v: f16 [hidden] */
  readonly norm: bigint;
  readonly eps: number;
  readonly nextNorm: bigint;
  readonly nextEps: number;
  /** f16, q, k and v; empty where no layer follows. */
  readonly y: readonly bigint[];
  /** Packets and counters, see chainScratch(); zero before the first launch. */
  readonly sums: bigint;
  readonly gated: bigint;
  readonly pieces: bigint;
  readonly epochs: bigint;
}

/** @param linears o, gate and up, down, and q, k, v where a layer follows */
export function chainParameters(launch: ChainLaunch, buffers: ChainBuffers, linears: readonly ChainLinear[]): Uint8Array {
  const bytes = new Uint8Array(CHAIN.bytes + launch.shares.length * CHAIN_WEIGHTS.bytes);
  const view = new DataView(bytes.buffer);
  const { y, ...rest } = buffers;
  const { stages, xAt, spansAt, partialAt, flying, xPitch } = launch;
  const stageMagic = Math.ceil(2 ** 20 / stages);
  const [y0 = 0n, y1 = 0n, y2 = 0n] = y;
  writeParametersAt(view, 0, CHAIN, {
    ...rest,
    y0,
    y1,
    y2,
    stages,
    count: linears.length,
    xAt,
    spansAt,
    partialAt,
    flying,
    stageMagic,
    xPitch,
  });
  linears.forEach(({ weights, biases, outputs, inputs }, i) => {
    const [weights0 = 0n, weights1 = 0n, weights2 = 0n] = weights;
    const [bias0 = 0n, bias1 = 0n, bias2 = 0n] = biases;
    const [n0 = 0, n1 = 0, n2 = 0] = outputs;
    const of = { weights0, weights1, weights2, bias0, bias1, bias2, n0, n1, n2, k: inputs, ...launch.shares[i]! };
    writeParametersAt(view, CHAIN.bytes + i * CHAIN_WEIGHTS.bytes, CHAIN_WEIGHTS, of);
  });
  return bytes;
}
