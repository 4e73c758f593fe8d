import { describe, expect, it } from "vitest";
import { chainLaunch } from "./chain-launch.js";
import { chainParameters } from "./chain-parameters.js";
import { CHAIN, CHAIN_WEIGHTS } from "./kernel-parameters.js";

const shape = { bits: 4, group: 128, hidden: 4096, attention: 4096, intermediate: 11008, next: [4096, 1024, 1024] } as const;
const launch = chainLaunch(shape, { multiprocessors: 132, major: 9, sharedPerBlock: 232448 })!;
const buffers = {
  ...{ attention: 1n, norm: 2n, nextNorm: 3n, residual: 4n, y: [5n, 6n, 7n] },
  ...{ sums: 8n, gated: 9n, pieces: 10n, epochs: 11n, eps: 0.5, nextEps: 0.25 },
};
const linear = (first: bigint, inputs: number, outputs: readonly number[]) => ({
  weights: outputs.map((_, i) => first + BigInt(i)),
  biases: outputs.map((_, i) => first + 10n + BigInt(i)),
  outputs,
  inputs,
});
const linears = [
  linear(100n, 4096, [4096]),
  linear(200n, 4096, [11008, 11008]),
  linear(300n, 11008, [4096]),
  linear(400n, 4096, shape.next),
];

describe("chainParameters", () => {
  const bytes = chainParameters(launch, buffers, linears);
  const view = new DataView(bytes.buffer);
  const pointers = (at: number, count: number) => [...new BigUint64Array(bytes.slice(at, at + count * 8).buffer)];
  const numbers = (at: number, count: number) => [...new Int32Array(bytes.slice(at, at + count * 4).buffer)];
  const weightsAt = (i: number) => CHAIN.bytes + i * CHAIN_WEIGHTS.bytes;

  it("begin with buffers, then say where what lies in shared memory", () => {
    expect(pointers(0, 11)).toEqual([1n, 2n, 3n, 4n, 5n, 6n, 7n, 8n, 9n, 10n, 11n]);
    expect([view.getFloat32(88, true), view.getFloat32(92, true)]).toEqual([0.5, 0.25]);
    expect(numbers(96, 5)).toEqual([launch.stages, 4, launch.xAt, launch.spansAt, launch.partialAt]);
  });

  it("then have each linear with its share", () => {
    expect(bytes).toHaveLength(CHAIN.bytes + 4 * CHAIN_WEIGHTS.bytes);
    expect(pointers(weightsAt(1), 6)).toEqual([200n, 201n, 0n, 210n, 211n, 0n]);
    expect(numbers(weightsAt(1) + 48, 4)).toEqual([11008, 11008, 0, 4096]);
    expect(pointers(weightsAt(3), 6)).toEqual([400n, 401n, 402n, 410n, 411n, 412n]);
    expect(numbers(weightsAt(3) + 48, 4)).toEqual([...shape.next, 4096]);
    launch.shares.forEach(({ each, more }, i) => {
      expect(numbers(weightsAt(i) + 64, 2)).toEqual([each, more]);
    });
  });

  it("divide a block's superblocks by the stages of the ring with a multiplication of 32 bits", () => {
    for (let stages = 8; stages <= 24; stages++) {
      const magic = new DataView(chainParameters({ ...launch, stages }, buffers, linears).buffer).getInt32(120, true);
      const wrong = Array.from({ length: 16000 }, (_, i) => i).filter(
        (i) => Math.imul(i, magic) >> 20 !== Math.floor(i / stages),
      );
      expect(wrong).toEqual([]);
    }
  });

  it("have no fourth linear where no layer follows", () => {
    const last = chainParameters(launch, { ...buffers, y: [] }, linears.slice(0, 3));
    expect(last).toHaveLength(bytes.length);
    expect(new DataView(last.buffer).getInt32(100, true)).toBe(3);
    expect(last.subarray(weightsAt(3)).every((byte) => byte === 0)).toBe(true);
  });
});
