// Adapters on the card's host side: what is packed where, and which steps launch what.

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { Driver, greedyAt } from "../../../../test/conformance/driver.js";
import { readModel } from "../../../../test/reference/reader.js";
import { fromHalfBits } from "../../../../test/support/element-types.js";
import { FakeCuda } from "../../../../test/support/fake-cuda.js";
import { fixture } from "../../../../test/support/fixtures.js";
import { llama7b, makeSpec } from "../../../../test/support/shapes.js";
import { makeAdapter, smallAdapter } from "../../../../test/support/synthetic-adapter.js";
import { adapterBytes } from "../../../memory/adapter-bytes.js";
import { layout } from "../../../memory/layout.js";
import { withAdapters } from "../../../model/adapter.js";
import { createCudaBackend } from "../index.js";
import { cudaPacking } from "../packing.js";
import { packFactors } from "./load-adapters.js";

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "exllama-adapters-"));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const model = "tiny/llama-gqa-tied";

async function loaded<T>(adapters: Record<string, string>, use: (driver: Driver, cuda: FakeCuda) => Promise<T>): Promise<T> {
  const cuda = new FakeCuda();
  const backend = createCudaBackend({ sources: cuda.sources(join(folder, "baselines.json")) });
  const options = { cacheType: "f16" as const, context: 256, prefillChunk: 64, maxSequences: 3, adapters };
  const driver = await Driver.load(backend, fixture(model), options);
  try {
    return await use(driver, cuda);
  } finally {
    await driver.runtime.dispose();
    expect(cuda.leaks).toEqual([]);
  }
}

describe("adapters on a card", () => {
  it("are counted: f16 factors of ranks filled up to eight, for the linears that they change", () => {
    const spec = makeSpec({ ...llama7b, layers: 2 });
    const adapters = [
      { name: "a", layers: [{ q: 3, down: 16 }, {}] },
      { name: "b", layers: [{ q: 9 }, {}] },
    ];
    const run = { context: 512, cacheTokens: 512, cacheType: "f16" as const, maxSequences: 1, prefillChunk: 32 };
    const place = (of: typeof spec) => layout(of, { first: 0, count: 2 }, run, cudaPacking);
    const adapted = place(withAdapters(spec, adapters));
    const { q } = spec.layers[0]!.attention;
    const { mlp } = spec.layers[0]!;
    if (mlp.kind !== "gated") throw new Error("a gated model is needed");
    const factors = 2 * ((8 + 16) * (q.in + q.out) + 16 * (mlp.down.in + mlp.down.out));
    const owners = ((8 + 16) / 8 + 16 / 8) * 4;
    expect(adapterBytes(adapted)).toBe(factors + owners);
    expect(adapted.weights - place(spec).weights).toBeGreaterThanOrEqual(factors + owners);
    expect(adapterBytes(place(spec))).toBe(0);
  });

  it("are packed rank by rank, each octet with its adapter", () => {
    const linear = { in: 3, out: 2, adapterRanks: [1, 0, 9] };
    const values = (count: number, first: number) => Float32Array.from({ length: count }, (_, i) => first + i);
    const pairs = [{ a: values(3, 1), b: values(2, 10) }, null, { a: values(27, 100), b: values(18, 200) }];
    const { a, b, owners } = packFactors(linear, pairs);
    expect([...owners]).toEqual([0, 2, 2]);
    const halves = (from: Uint16Array, at: number, count: number) => [...from.subarray(at, at + count)].map(fromHalfBits);
    expect(halves(a, 0, 6)).toEqual([1, 2, 3, 0, 0, 0]);
    expect(halves(a, 8 * 3, 3)).toEqual([100, 101, 102]);
    expect(halves(a, 16 * 3, 6)).toEqual([124, 125, 126, 0, 0, 0]);
    // B is transposed: rank r holds a value of every output.
    expect(halves(b, 0, 4)).toEqual([10, 11, 0, 0]);
    expect(halves(b, 8 * 2, 4)).toEqual([200, 209, 201, 210]);
    expect(halves(b, 16 * 2, 2)).toEqual([208, 217]);
  });

  it("cost launches in the steps that use them only", async () => {
    using adapter = makeAdapter({ ...smallAdapter, targets: ["q", "gate"] }, readModel(fixture(model)));
    await loaded({ only: adapter.folder }, async (driver, cuda) => {
      const launchesOf = async (weight: number) => {
        const sequence = driver.newSequence(weight === 0 ? [] : [{ index: 0, weight }]);
        cuda.launched.length = 0;
        await driver.step([{ sequence, ids: [1, 2, 3], outputs: [{ index: 2, sample: greedyAt(3) }] }]);
        return cuda.launched.filter((name) => name.startsWith("lora_"));
      };
      expect(await launchesOf(0)).toEqual([]);
      const layers = driver.runtime.spec.layers.length;
      // q's and gate's, two launches each.
      expect(await launchesOf(0.5)).toHaveLength(layers * 4);
    });
  });

  it("have captured decode steps of their own", async () => {
    using adapter = makeAdapter(smallAdapter, readModel(fixture(model)));
    const graphs = (adapters: Record<string, string>) =>
      loaded(adapters, async (_, cuda) => cuda.made.filter((name) => name === "cuStreamBeginCapture_v2").length);
    const without = await graphs({});
    expect(without).toBeGreaterThan(0);
    expect(await graphs({ only: adapter.folder })).toBe(2 * without);
  });
});
