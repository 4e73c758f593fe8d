import { describe, expect, it } from "vitest";
import { llama13b, makeSpec } from "../../test/support/shapes.js";
import { cpuExactPacking, cpuPacking } from "../backend/cpu/packing.js";
import { cudaPacking } from "../backend/cuda/packing.js";
import { type AdapterSpec, withAdapters } from "../model/adapter.js";
import { adapterBytes } from "./adapter-bytes.js";
import { parseDevices } from "./devices.js";
import { explainPlan } from "./explain.js";
import type { Packing } from "./packing.js";
import { planModel } from "./plan-model.js";
import { GiB } from "./size.js";

const spec = makeSpec(llama13b);
const attention = { q: 16, k: 16, v: 16, o: 16 };
const mlp = { gate: 16, up: 16, down: 16 };
const adapters: AdapterSpec[] = [
  { name: "all", layers: spec.layers.map(() => ({ ...attention, ...mlp })) },
  // Half of the layers only: layers are no longer alike.
  { name: "early", layers: spec.layers.map(({ index }) => (index < 20 ? { q: 5, v: 5 } : {})) },
];

function plan(packing: Packing, adapted: boolean, caps: readonly number[]) {
  const made = planModel({
    spec: adapted ? withAdapters(spec, adapters) : spec,
    packing,
    devices: parseDevices(caps.map(() => "64GiB").join(",")),
    caps,
    context: 2048,
    cacheType: packing.cacheTypes[0]!,
  });
  if (!made.ok) throw new Error(made.message);
  return made;
}

/** Values of A and B together. */
const values = spec.layers.reduce((sum, { index, attention: { q, k, v, o }, mlp: gated }) => {
  if (gated.kind !== "gated") throw new Error("a gated model is needed");
  const all = [q, k, v, o, gated.gate, gated.up, gated.down].reduce((total, linear) => total + 16 * (linear.in + linear.out), 0);
  return sum + all + (index < 20 ? 5 * (q.in + q.out + v.in + v.out) : 0);
}, 0);

describe("adapters in a plan", () => {
  it.each([
    [cpuPacking, 2],
    [cpuExactPacking, 4],
  ])("take exactly their factors ($name)", (packing, bytes) => {
    const [device] = plan(packing, true, [60 * GiB]).devices;
    // And an f32 for each adapter beside each of the seven linears of a layer, aligned to 64 bytes.
    const linears = 7 * spec.layers.length;
    expect(adapterBytes(device!.stage)).toBe(values * bytes + linears * 2 * 4);
    const without = plan(packing, false, [60 * GiB]).devices[0]!;
    expect(device!.weights - without.weights).toBe(values * bytes + linears * 64);
    expect(device!.scratch).toBeGreaterThan(without.scratch);
  });

  it("lie with their layers, on each device", () => {
    const made = plan(cudaPacking, true, [5 * GiB, 5 * GiB, 5 * GiB]);
    const shares = made.devices.map(({ stage }) => adapterBytes(stage));
    expect(shares.every((share) => share > 0)).toBe(true);
    const sum = shares.reduce((total, share) => total + share, 0);
    // Ranks are filled up to eight, and each octet names its adapter.
    expect(sum).toBeGreaterThan(values * 2);
    expect(sum).toBeLessThan(values * 2 * 1.1);
    expect(made.adapters).toEqual([
      { name: "all", rank: 16 },
      { name: "early", rank: 5 },
    ]);
    expect(explainPlan(made)).toMatch(/adapters +all \(rank 16\), early \(rank 5\): [\d.]+ MiB of the weights/);
    expect(explainPlan(plan(cudaPacking, false, [12 * GiB]))).not.toMatch(/adapters/);
  });
});
