// Headers from strangers: whatever tensors a file announces, they are understood or refused.

import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { llama7b, makeSpec } from "../../test/support/shapes.js";
import type { Dtype, TensorInfo } from "../checkpoint/checkpoint.js";
import { targetLinear } from "../model/adapter.js";
import { readAdapterTensors } from "./adapter-tensors.js";
import { readAdapterConfig } from "./config.js";
import { AdapterConfigError, AdapterTensorError, UnsupportedAdapterError } from "./errors.js";

const spec = makeSpec({ ...llama7b, layers: 2 });
const config = readAdapterConfig({ peft_type: "LORA", r: 4, lora_alpha: 4 }, "adapter_config.json");

const names = fc.oneof(
  fc.string({ maxLength: 30 }),
  fc
    .tuple(
      fc.constantFrom("base_model.model.model.layers.", "model.layers.", "base_model.model.layers.", "model.model.layers."),
      fc.constantFrom("0", "1", "2", "99999999", "-1", "01", "__proto__"),
      fc.constantFrom(".self_attn.", ".mlp.", ".", ".mlp.experts.0."),
      fc.constantFrom("q_proj", "down_proj", "up_proj", "constructor", "lm_head", ""),
      fc.constantFrom(
        ".lora_A.weight",
        ".lora_B.weight",
        ".lora_A.default.weight",
        ".lora_C.weight",
        ".bias",
        ".lora_magnitude_vector",
        ".weight",
      ),
    )
    .map((parts) => parts.join("")),
);
const shapes = fc.oneof(
  fc.constantFrom([4, 4096], [4096, 4], [4, 11008], [11008, 4]),
  fc.array(fc.oneof(fc.nat(5), fc.constant(4096), fc.constant(Number.MAX_SAFE_INTEGER)), { maxLength: 4 }),
);
const tensors = fc
  .uniqueArray(fc.record({ name: names, shape: shapes, dtype: fc.constantFrom<Dtype>("F16", "F32", "BF16", "I64", "BOOL") }), {
    selector: ({ name }) => name,
    maxLength: 6,
  })
  .map(
    (list) =>
      new Map(
        list.map(({ name, shape, dtype }): [string, TensorInfo] => [name, { name, shape, dtype, file: "x", start: 0, bytes: 0 }]),
      ),
  );

describe("readAdapterTensors", () => {
  it("takes pairs that fit the model, and refuses everything else by a typed error", () => {
    fc.assert(
      fc.property(tensors, (all) => {
        try {
          const { layers, pair } = readAdapterTensors(all, config, spec, "file");
          expect(layers).toHaveLength(spec.layers.length);
          for (const [index, layer] of layers.entries())
            for (const [target, rank] of Object.entries(layer)) {
              const linear = targetLinear(spec.layers[index]!, target as "q")!;
              const found = pair(index, target as "q")!;
              expect([found.a.shape, found.b.shape]).toEqual([
                [rank, linear.in],
                [linear.out, rank],
              ]);
            }
        } catch (error) {
          const typed = [AdapterConfigError, AdapterTensorError, UnsupportedAdapterError].some((type) => error instanceof type);
          expect(typed, String(error)).toBe(true);
        }
      }),
      { numRuns: 500 },
    );
  });
});
