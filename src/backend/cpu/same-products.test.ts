import { readFileSync } from "node:fs";
import { beforeAll, describe, expect, it } from "vitest";
import { distFile } from "../../paths.js";
import { instantiate, type Kernels } from "./kernels.js";
import type { ProductKernels } from "./quantized-kernels.js";
import { CHECK_PAGES, sameProducts } from "./same-products.js";
import { compileWide, hasWideSimd } from "./wide-simd.js";

const memory = new WebAssembly.Memory({ initial: CHECK_PAGES, maximum: CHECK_PAGES, shared: true });
const file = (name: string) => readFileSync(distFile(`wasm/${name}.wasm`));
const plain = new WebAssembly.Module(file("kernels-simd"));
let kernels: Kernels;

beforeAll(() => {
  kernels = instantiate({ kernels: plain, products: null }, memory);
});

/** The kernel `name`, with what `change` does after every call. */
function changed<Name extends keyof ProductKernels>(name: Name, change: (y: Float32Array, m: number) => void): ProductKernels {
  const kernel: ProductKernels[Name] = (...args) => {
    kernels[name](...args);
    const [, , , , , m, , y, , out] = args;
    change(new Float32Array(memory.buffer, y, m * out), m);
  };
  return { ...kernels, [name]: kernel };
}

describe("sameProducts", () => {
  it("trusts what gives the same bits", () => {
    expect(sameProducts(instantiate({ kernels: plain, products: null }, memory), kernels, memory)).toBe(true);
  });
  it.each(["linear_nibbles_f16", "linear_nibbles_f32", "linear_bytes"] as const)("sees one bit changed by %s", (name) => {
    const last = changed(name, (y) => {
      new Uint32Array(y.buffer, y.byteOffset + y.byteLength - 4, 1)[0]! ^= 1;
    });
    expect(sameProducts(last, kernels, memory)).toBe(false);
  });
  it.each([1, 2, 3, 4, 5])("sees a number of tokens (%d) for which one is wrong", (tokens) => {
    const wrong = changed("linear_nibbles_f16", (y, m) => {
      if (m === tokens) y[y.length - 1] = 7;
    });
    expect(sameProducts(wrong, kernels, memory)).toBe(false);
  });
  it("does not trust what traps", () => {
    const trap = changed("linear_bytes", () => {
      throw new RangeError("memory access out of bounds");
    });
    expect(sameProducts(trap, kernels, memory)).toBe(false);
  });
});

describe.runIf(hasWideSimd(process.versions.v8, new Set(["avx2"])))("compileWide", () => {
  it.each(["relaxed", "dot"])("makes products (%s) that can be trusted", (build) => {
    const wide = compileWide(file(`products-${build}`));
    expect(sameProducts(instantiate({ kernels: plain, products: wide }, memory), kernels, memory)).toBe(true);
  });
});

describe("hasWideSimd", () => {
  it.each([
    ["13.6.233.17-node.63", ["avx2"], true],
    ["14.6.202.34-node.40", ["avx2"], true],
    ["13.6.233.17-node.63", ["sse4_2"], false],
    ["12.4.254.21-node.57", ["avx2"], false],
    ["13.60.1", ["avx2"], false],
    ["15.0.1", ["avx2"], false],
  ])("V8 %s, %j: %s", (v8, processor, wide) => {
    expect(hasWideSimd(v8, new Set(processor))).toBe(wide);
  });
});
