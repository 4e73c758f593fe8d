// What is planned for captured steps beside the launches that they come to, on cards of every kind.

import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { gptq4, llama3_8b, llama7b, llama13b, llama70b, makeSpec } from "../../../../test/support/shapes.js";
import { layout } from "../../../memory/layout.js";
import type { DevicePlan } from "../../../memory/plan.js";
import type { DeviceContext } from "../cards/device-context.js";
import { type KernelCall, KernelQueue } from "../launch/kernel-queue.js";
import { cudaPacking } from "../packing.js";
import { capturedBytes, capturedSize } from "./captured-steps.js";
import { Forward } from "./forward.js";
import { Stage } from "./stage.js";
import { decodeBuckets } from "./step-shape.js";

const A100 = { multiprocessors: 108, major: 8, minor: 0, sharedPerBlock: 166912 };
const RTX_3060 = { multiprocessors: 28, major: 8, minor: 6, sharedPerBlock: 101376 };
const H100 = { multiprocessors: 132, major: 9, minor: 0, sharedPerBlock: 232448 };
const RTX_5090 = { multiprocessors: 170, major: 12, minor: 0, sharedPerBlock: 101376 };
const LAYERS = 2;

const run = (maxSequences: number) =>
  ({ context: 512, cacheTokens: 512 * maxSequences, cacheType: "f16", maxSequences, prefillChunk: 512 }) as const;

/** Launches of the layers of a step of so many tokens, linear by linear. */
function launches(spec: ReturnType<typeof makeSpec>, card: typeof A100, rows: number): number {
  const range = { first: 0, count: LAYERS };
  const context = { card, driver: { call: () => 0 } } as unknown as DeviceContext;
  const device = { layers: range, stage: layout(spec, range, run(rows), cudaPacking) } as DevicePlan;
  const stage = new Stage(context, device as never, spec, Array(LAYERS).fill(0), 1n << 44n);
  const model = { spec, run: run(rows), ropeFactor: 1, embeddings: { at: 0n, kind: 0 } };
  const calls: KernelCall[] = [];
  const shape = { rows, decodeRows: rows, tiles: 0, entries: rows, outputs: rows };
  new Forward(model as never, stage, new KernelQueue(context, true, (call) => calls.push(call)), shape, false, false).layers();
  return calls.length - 1; // embeddings
}

const planned = (spec: ReturnType<typeof makeSpec>, maxSequences: number) =>
  spec.layers.reduce((sum, layer) => sum + capturedSize.layer(spec, layer, run(maxSequences)), 0);

describe("capturedSize", () => {
  it("has room for every decode step's launches, on any card", () => {
    fc.assert(
      fc.property(
        fc.constantFrom(llama7b, llama13b, llama70b, llama3_8b),
        fc.constantFrom(2, 3, 4, 8),
        fc.constantFrom(32, 64, 128, 1024),
        fc.constantFrom(A100, RTX_3060, H100, RTX_5090),
        fc.constantFrom(1, 2, 4, 8, 16, 32, 64, 128, 256),
        (shape, bits, groupSize, card, most) => {
          const spec = makeSpec({ ...shape, layers: LAYERS, format: { ...gptq4, bits, groupSize } as never });
          const all = decodeBuckets(run(most)).reduce((sum, rows) => sum + launches(spec, card, rows), 0);
          expect(capturedBytes(all)).toBeLessThanOrEqual(planned(spec, most));
        },
      ),
    );
  });

  it("counts linears that one launch takes as one, unless their inputs may be permuted", () => {
    const of = (format: object) => planned(makeSpec({ ...llama7b, layers: 1, format: { ...gptq4, ...format } }), 1);
    expect(of({})).toBe(capturedBytes(8)); // two norms, attention, silu; q, k, v; o; gate, up; down
    expect(of({ gIdx: true })).toBe(capturedBytes(11));
  });
});
