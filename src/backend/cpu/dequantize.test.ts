import { readFileSync } from "node:fs";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { nearestOf, roundedTo } from "../../../test/support/element-types.js";
import { packWeights, packZeros } from "../../../test/support/gptq-packer.js";
import { Random } from "../../../test/support/random.js";
import { floatTensor } from "../../../test/support/synthetic-linear.js";
import { distFile } from "../../paths.js";
import { instantiate } from "./kernels.js";
import { PACK_DTYPE } from "./quantized-kernels.js";
import { hasRelaxedSimd, withRelaxedSimd } from "./relaxed-simd.js";

const memory = new WebAssembly.Memory({ initial: 16, maximum: 16, shared: true });
const START = 65536;
const builds = hasRelaxedSimd() ? ["kernels-relaxed", "kernels-simd"] : ["kernels-simd"];

/** GPTQ linears of every kind: sizes that fill whole words, groups of any size. */
const linears = fc
  .record({
    seed: fc.nat(),
    bits: fc.constantFrom(2, 3, 4, 8),
    zeros: fc.constantFrom("v1", "v2"),
    dtype: fc.constantFrom("f16", "bf16", "f32"),
    ordered: fc.boolean(),
    units: fc.integer({ min: 1, max: 9 }),
    outUnits: fc.integer({ min: 1, max: 2 }),
    groupSize: fc.integer({ min: 1, max: 200 }),
  })
  .map(({ units, outUnits, bits, ...rest }) => ({ ...rest, bits, inputs: units * unitOf(bits), out: outUnits * unitOf(bits) }));

/** Codes that fill a word, or three of them. */
function unitOf(bits: number): number {
  return bits === 3 ? 32 : 32 / bits;
}

describe.each(builds)("%s", (name) => {
  const bytes = readFileSync(distFile(`wasm/${name}.wasm`));
  const kernels = instantiate({ kernels: withRelaxedSimd(() => new WebAssembly.Module(bytes)), products: null }, memory);

  it("makes (code − zero) · scale of every kind of code, in slabs and shares of any size, and writes nothing else", () => {
    fc.assert(
      fc.property(linears, fc.integer({ min: 1, max: 5 }), fc.nat(64), (linear, slabUnits, cut) => {
        const { seed, bits, zeros, dtype, ordered, inputs, out, groupSize } = linear;
        const random = new Random(seed);
        const groups = Math.ceil(inputs / groupSize);
        const groupOf = Int32Array.from({ length: inputs }, (_, k) =>
          ordered ? random.integer(groups) : Math.floor(k / groupSize),
        );
        const codes = Uint16Array.from({ length: inputs * out }, () => random.integer(2 ** bits));
        const stored = Uint16Array.from({ length: groups * out }, () => random.integer(2 ** bits));
        const scales = roundedTo(random.normals(groups * out, 0.01), dtype);

        let end = START;
        const place = (data: Uint8Array | Int32Array) => {
          const at = end;
          new Uint8Array(memory.buffer, at, data.byteLength).set(new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
          end = Math.ceil((at + data.byteLength) / 64) * 64;
          return at;
        };
        const packed = packWeights(codes, inputs, out, bits);
        const at = {
          scales: place(floatTensor("scales", [groups, out], scales, dtype).data),
          zeros: place(packZeros(stored, groups, out, bits)),
          gIdx: ordered ? place(groupOf) : 0,
        };
        const [slab, to] = [end, Math.ceil((end + packed.byteLength) / 64) * 64];
        const values = new Float32Array(memory.buffer, to, inputs * out + 16).fill(7);
        const shares = [0, Math.min(cut, out), out];
        for (let first = 0; first < inputs; first += slabUnits * 32) {
          const rows = Math.min(slabUnits * 32, inputs - first);
          const [from, until] = [first, first + rows].map((row) => ((row * bits) / 32) * out);
          new Int32Array(memory.buffer, slab, packed.length).fill(-1).set(packed.subarray(from, until));
          for (let i = 0; i < 2; i++)
            kernels.dequantize_columns(
              slab,
              bits,
              zeros === "v1" ? 1 : 0,
              out,
              inputs,
              first,
              rows,
              at.scales,
              PACK_DTYPE[({ f16: "F16", bf16: "BF16", f32: "F32" } as const)[dtype]],
              at.zeros,
              at.gIdx,
              groupSize,
              to,
              shares[i]!,
              shares[i + 1]!,
            );
        }
        const wanted = Float32Array.from({ length: inputs * out + 16 }, (_, i) => {
          if (i >= inputs * out) return 7;
          const [n, k] = [Math.floor(i / inputs), i % inputs];
          const group = groupOf[k]! * out + n;
          const zero = (stored[group]! + (zeros === "v1" ? 1 : 0)) % 2 ** bits;
          return nearestOf((codes[k * out + n]! - zero) * scales[group]!, "f32");
        });
        expect(values).toEqual(wanted);
      }),
      { numRuns: 300 },
    );
  });
});
