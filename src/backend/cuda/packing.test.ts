import { describe, expect, it } from "vitest";
import { gptq4, llama3_8b, llama13b, makeSpec, plain16, type Shape } from "../../../test/support/shapes.js";
import { KiB, MiB } from "../../memory/size.js";
import type { GptqFormat, LinearFormat } from "../../model/spec.js";
import { cudaPacking } from "./packing.js";

const run = { context: 4096, cacheTokens: 4096, cacheType: "f16", maxSequences: 2, prefillChunk: 512 } as const;

function regions(shape: Partial<Shape>): Map<string, number> {
  const spec = makeSpec({ ...llama13b, layers: 1, ...shape });
  return new Map(cudaPacking.layer(spec, spec.layers[0]!).map(({ name, bytes }) => [name.replace("layers.0.", ""), bytes]));
}

/** Bytes of one 16-row tile of o_proj for these input columns. */
function tileBytes(format: LinearFormat, inputs: number): number {
  const shape = { hidden: 16, heads: 1, kvHeads: 1, headDim: inputs, format };
  return regions(shape).get("attention.o.weights")!;
}

describe("cudaPacking", () => {
  it.each<[string, Partial<GptqFormat>, number, number]>([
    ["a 4-bit g128 superblock: codes, 8 scales, 8 zeros", {}, 1024, 8192 + 256 + 64],
    ["its last one, shorter", {}, 1024 + 768, 8512 + 6144 + 192 + 48],
    ["columns padded to 64, half a group", {}, 1024 + 32, 8512 + 512 + 32 + 16],
    ["2 bits", { bits: 2 }, 1024, 4096 + 256 + 32],
    ["3 bits, zeros in nibbles", { bits: 3 }, 1024, 6144 + 256 + 64],
    ["8 bits", { bits: 8 }, 1024, 16384 + 256 + 128],
    ["g32", { groupSize: 32 }, 1024, 8192 + 1024 + 256],
    ["one group for everything: its scales in every superblock", { groupSize: 2048 }, 2048, 2 * (8192 + 32 + 16)],
    ["groups across superblocks count in both", { groupSize: 768 }, 2304, (8192 + 64 + 16) * 2 + 2048 + 32 + 16],
  ])("stores %s", (_, format, inputs, bytes) => {
    expect(tileBytes({ ...gptq4, ...format }, inputs)).toBe(bytes);
  });

  it("stores plain weights in 16 bits, padded to tiles", () => {
    expect(tileBytes(plain16, 100)).toBe(16 * 128 * 2);
    expect(tileBytes({ kind: "plain", dtype: "f32" }, 128)).toBe(16 * 128 * 2);
  });

  it("puts q, k, v and gate, up together where their formats agree, in as many bytes", () => {
    const together = regions({});
    expect([...together.keys()]).toEqual([
      "inputNorm",
      "attention.q_k_v.weights",
      "attention.o.weights",
      "postAttentionNorm",
      "mlp.gate_up.weights",
      "mlp.down.weights",
    ]);
    expect(together.get("attention.q_k_v.weights")).toBe(3 * together.get("attention.o.weights")!);
    expect(together.get("mlp.gate_up.weights")! / 13824).toBe(2 * 5120 * (8512 / 16 / 1024));
  });

  it("keeps room for a permutation per linear wherever g_idx exists", () => {
    const permuted = regions({ format: { ...gptq4, gIdx: true } });
    expect(permuted.get("attention.q_k_v.permutation")).toBe(3 * 5120 * 4);
    expect(permuted.get("mlp.down.permutation")).toBe(13824 * 4);
    expect(regions({}).has("mlp.down.permutation")).toBe(false);
  });

  it("is close to the 4.156 bits per weight of the format itself", () => {
    const spec = makeSpec(llama13b);
    const bytes = cudaPacking.layer(spec, spec.layers[0]!).reduce((sum, region) => sum + region.bytes, 0);
    expect(bytes / MiB).toBeGreaterThan(157.1);
    expect(bytes / MiB).toBeLessThan(157.3);
  });

  it.each([
    ["f32", 1024],
    ["f16", 512],
    ["q8", 260],
    ["q4", 144],
  ] as const)("takes for an %s cache %d bytes per token and KV head of 128", (type, bytes) => {
    const layer = makeSpec(llama3_8b).layers[0]!;
    const sum = cudaPacking.kv(layer, 256, type).reduce((all, region) => all + region.bytes, 0);
    expect(sum / 256 / 8).toBe(bytes);
  });

  it("has logits only where the head is, and a dequantised slab of at most 24 MiB", () => {
    const spec = makeSpec(llama3_8b);
    const scratch = (last: boolean) =>
      new Map(cudaPacking.scratch(spec, { layers: spec.layers, first: true, last }, run).map(({ name, bytes }) => [name, bytes]));
    expect(scratch(true).get("scratch.logits")).toBe(2 * 128256 * 4);
    expect(scratch(false).has("scratch.logits")).toBe(false);
    expect(scratch(true).get("scratch.dequantised")).toBe(24 * MiB);
    expect(scratch(true).get("scratch.hidden")).toBe(512 * 4096 * 2);
    expect(scratch(true).get("scratch.control")).toBe(64 * KiB);
  });

  it("counts every expert", () => {
    const experts = regions({ experts: 8 });
    expect([...experts.keys()].filter((name) => name.endsWith("down.weights"))).toHaveLength(8);
    expect(experts.get("mlp.router.weights")).toBe(16 * 5120 * 2);
  });
});
