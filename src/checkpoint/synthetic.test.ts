import { describe, expect, it } from "vitest";
import { UsageError } from "../errors.js";
import { readModel } from "../model/read.js";
import { openSynthetic, SYNTHETIC_MODELS, syntheticAddress } from "./synthetic.js";

describe("synthetic checkpoints", () => {
  it.each(SYNTHETIC_MODELS)("%s is a model that can be read", (name) => {
    const spec = readModel(openSynthetic(syntheticAddress(name, 8, 64)));
    expect(spec.contextLimit).toBe(1_048_576);
    expect(spec.layers[0]!.attention.q.format).toMatchObject({ kind: "gptq", bits: 8, groupSize: 64 });
  });

  it("holds the same bytes whatever the parts it is read in", async () => {
    const checkpoint = openSynthetic(syntheticAddress("llama-7b"));
    for (const name of ["model.embed_tokens.weight", "model.layers.3.mlp.up_proj.qweight"]) {
      const tensor = checkpoint.tensors.get(name)!;
      const whole = new Uint8Array(3_000_000);
      await checkpoint.read(tensor, 0, whole);
      const part = new Uint8Array(1_500_000);
      await checkpoint.read(tensor, 1_400_000, part);
      expect(Buffer.compare(part, whole.subarray(1_400_000, 2_900_000))).toBe(0);
    }
  });

  it("has only finite numbers", async () => {
    const checkpoint = openSynthetic(syntheticAddress("llama-7b"));
    for (const name of ["lm_head.weight", "model.norm.weight", "model.layers.0.self_attn.q_proj.scales"]) {
      const words = new Uint16Array(4096);
      await checkpoint.read(checkpoint.tensors.get(name)!, 0, new Uint8Array(words.buffer));
      expect(words.every((word) => (word & 0x7c00) !== 0x7c00 && (word & 0x7fff) !== 0)).toBe(true);
    }
  });

  it.each([
    ["llama-9b", 4, 128],
    ["llama-7b", 5, 128],
    ["llama-7b", 4, 48],
  ])("refuses %s with %i bits in groups of %i", (model, bits, group) => {
    expect(() => syntheticAddress(model, bits, group)).toThrow(UsageError);
  });
});
