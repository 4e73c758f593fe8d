// What only the contents of the tensors show is found while they are streamed in: the load
// ends with the tensor's name and gives everything back.

import { afterAll, describe, expect, it } from "vitest";
import { ExllamaError, type LoadOptions, loadModel } from "../../src/index.js";
import { AskedEngine } from "../support/asked-engine.js";
import { SpoiledCheckpoint } from "./spoiled-checkpoint.js";

const Q = "model.layers.0.self_attn.q_proj";
const [HALF_NAN, HALF_INFINITY] = [0x7e00, 0x7c00];

/** Puts the bits of a half at an element. */
function half(element: number, bits: number) {
  return (data: Uint8Array) => new DataView(data.buffer, data.byteOffset).setUint16(element * 2, bits, true);
}

/** Puts a whole number at an element. */
function integer(element: number, value: number) {
  return (data: Uint8Array) => new DataView(data.buffer, data.byteOffset).setInt32(element * 4, value, true);
}

const faults: [name: string, code: string, tensor: string, change: (data: Uint8Array) => void][] = [
  ["a scale that is NaN", "TENSOR_NOT_FINITE", `${Q}.scales`, half(5, HALF_NAN)],
  ["a scale that is infinite", "TENSOR_NOT_FINITE", "model.layers.0.mlp.down_proj.scales", half(0, HALF_INFINITY)],
  ["a last scale that is −infinite", "TENSOR_NOT_FINITE", `${Q}.scales`, half(2 * 64 - 1, HALF_INFINITY | 0x8000)],
  ["a norm that is NaN", "TENSOR_NOT_FINITE", "model.layers.0.input_layernorm.weight", half(63, HALF_NAN)],
  ["a head that is infinite", "TENSOR_NOT_FINITE", "lm_head.weight", half(64 * 300 + 1, HALF_INFINITY)],
  ["an embedding that is NaN", "TENSOR_NOT_FINITE", "model.embed_tokens.weight", half(64 * 319, HALF_NAN)],
  ["a g_idx beyond the groups", "TENSOR_CONTENTS", `${Q}.g_idx`, integer(9, 2)],
  ["a g_idx below 0", "TENSOR_CONTENTS", `${Q}.g_idx`, integer(0, -1)],
];

async function errorOf(load: Promise<unknown>): Promise<ExllamaError> {
  const error = await load.then(
    () => "no error at all",
    (thrown: unknown) => thrown,
  );
  expect(error).toBeInstanceOf(ExllamaError);
  return error as ExllamaError;
}

describe("found while the weights are streamed in", () => {
  const engine = new AskedEngine();
  afterAll(() => engine.end());

  it.each(faults)("%s: %s", async (_, code, tensor, change) => {
    using checkpoint = new SpoiledCheckpoint();
    checkpoint.contents(tensor, change);
    for (const cpuExact of [false, true]) {
      const error = await errorOf(engine.load(checkpoint.folder, { ctx: 256, threads: 1, cpuExact }));
      expect(error.code).toBe(code);
      expect(error.message).toContain(tensor);
    }
  });

  it("the next load works, in a process and in a thread", async () => {
    using bad = new SpoiledCheckpoint();
    bad.contents(`${Q}.scales`, half(5, HALF_NAN));
    using good = new SpoiledCheckpoint();
    for (const engine of ["process", "thread"] as const) {
      const options: LoadOptions = { engine, ctx: 256, threads: 1 };
      expect((await errorOf(loadModel(bad.folder, options))).code).toBe("TENSOR_NOT_FINITE");
      await using model = await loadModel(good.folder, options);
      const { ids } = await model.generate([1, 5, 9], { maxTokens: 4, temperature: 0, ignoreEos: true }).result;
      expect(ids).toHaveLength(4);
    }
  });

  it("loads that fail leave no memory behind", async () => {
    using bad = new SpoiledCheckpoint();
    bad.contents("lm_head.weight", half(64 * 300 + 1, HALF_INFINITY));
    // A pool of some 300 MB: were it kept, a few loads would show.
    const options: LoadOptions = { engine: "thread", ctx: 512, cacheTokens: 1 << 20, threads: 1 };
    await errorOf(loadModel(bad.folder, options));
    const before = process.memoryUsage().rss;
    for (let i = 0; i < 4; i++) await errorOf(loadModel(bad.folder, options));
    expect(process.memoryUsage().rss - before).toBeLessThan(200 * 2 ** 20);
  });
});
