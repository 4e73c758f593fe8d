// Small random models, packings and devices for property tests.

import fc from "fast-check";
import type { Packing, RegionSize } from "../../src/memory/packing.js";
import { gptq4, plain16, type Shape } from "./shapes.js";

/** Up to six layers, of one or two shapes and reaches. */
export const shapeArbitrary: fc.Arbitrary<Shape> = fc.integer({ min: 1, max: 6 }).chain((layers) =>
  fc.record({
    layers: fc.constant(layers),
    hidden: fc.constantFrom(64, 128),
    heads: fc.constantFrom(2, 4),
    kvHeads: fc.constantFrom(1, 2),
    headDim: fc.constant(32),
    intermediate: fc.array(fc.constantFrom(128, 192), { minLength: layers, maxLength: layers }),
    vocab: fc.constantFrom(256, 1000),
    format: fc.constantFrom(gptq4, plain16),
    windows: fc.array(fc.constantFrom(null, 300, 512), { minLength: layers, maxLength: layers }),
    tied: fc.boolean(),
  }),
);

/** Packings with any alignment, header and arena limit (a limit that holds at least one layer of the shapes above). */
export const packingArbitrary: fc.Arbitrary<Packing> = fc
  .record({
    alignment: fc.constantFrom(1, 16, 256),
    granularity: fc.constantFrom(1, 4096, 65536),
    maxArena: fc.oneof(
      fc.constant(Number.POSITIVE_INFINITY),
      fc.integer({ min: 48, max: 120 }).map((units) => units * 65536),
    ),
    arenaHeader: fc.constantFrom(0, 100, 65536),
    embeddings: fc.constantFrom("host", "device"),
    scratchPerToken: fc.integer({ min: 0, max: 40 }),
    odd: fc.integer({ min: 0, max: 99 }),
  })
  .map(({ scratchPerToken, odd, ...fixed }) => ({
    ...fixed,
    name: "cpu",
    cacheTypes: ["f16", "q8", "q4"],
    layer: (spec, layer) => {
      const width = layer.mlp.kind === "gated" ? layer.mlp.gate.out : 0;
      return [size(`layers.${layer.index}.a`, spec.hiddenSize * width + odd), size(`layers.${layer.index}.b`, odd)];
    },
    kv: ({ index, attention: { kvHeads, headDim } }, tokens, type) => {
      const bits = { f32: 32, f16: 16, q8: 9, q4: 5 }[type];
      return [size(`layers.${index}.kv`, (tokens * kvHeads * headDim * bits) / 4)];
    },
    embedding: (spec) => [size("embedding", spec.vocabSize * spec.hiddenSize * 2)],
    head: (spec, shared) => [
      size("norm", spec.hiddenSize),
      ...(shared ? [] : [size("head", spec.vocabSize * spec.hiddenSize * 2)]),
    ],
    scratch: (spec, stage, run) => {
      const widest = stage.layers.reduce((most, { mlp }) => Math.max(most, mlp.kind === "gated" ? mlp.gate.out : 0), 0);
      const regions = [size("scratch.a", run.prefillChunk * scratchPerToken + widest * 16 + run.context / 8)];
      return stage.last ? [...regions, size("scratch.logits", spec.vocabSize * 4)] : regions;
    },
  }));

function size(name: string, bytes: number): RegionSize {
  return { name, bytes };
}
