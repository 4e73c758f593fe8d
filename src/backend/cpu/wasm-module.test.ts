import { readFileSync } from "node:fs";
import { afterEach, describe, expect, it, vi } from "vitest";
import { distFile } from "../../paths.js";
import { withRelaxedSimd } from "./relaxed-simd.js";
import { chooseBuild, DOT_FROM_V8, loadKernelModules } from "./wasm-module.js";

afterEach(() => vi.unstubAllEnvs());

describe("loadKernelModules", () => {
  it("takes the relaxed build wherever the engine has it, flag or not", async () => {
    vi.stubEnv("EXLLAMA_NO_RELAXED_SIMD", "");
    expect((await loadKernelModules()).build.kernels).toBe("relaxed");
  });
  it("takes the plain build when told to", async () => {
    vi.stubEnv("EXLLAMA_NO_RELAXED_SIMD", "1");
    expect(await loadKernelModules()).toMatchObject({ build: { kernels: "simd", products: null, wide: false }, products: null });
  });
  it("compiles once, however many models are loaded", async () => {
    const first = await loadKernelModules();
    expect((await loadKernelModules()).kernels).toBe(first.kernels);
    vi.stubEnv("EXLLAMA_NO_RELAXED_SIMD", process.env.EXLLAMA_NO_RELAXED_SIMD === "1" ? "" : "1");
    expect((await loadKernelModules()).kernels).not.toBe(first.kernels);
  });
  it("does without 256-bit operations when told to", async () => {
    vi.stubEnv("EXLLAMA_NO_WIDE_SIMD", "1");
    expect((await loadKernelModules()).build.wide).toBe(false);
  });
  it.each(["relaxed", ...(Number.parseInt(process.versions.v8, 10) >= DOT_FROM_V8 ? ["dot"] : [])])(
    "has products (%s) that bring no data along: they stand beside the kernels over one memory",
    (build) => {
      const memory = new WebAssembly.Memory({ initial: 1, maximum: 1, shared: true });
      const bytes = readFileSync(distFile(`wasm/products-${build}.wasm`));
      new WebAssembly.Instance(
        withRelaxedSimd(() => new WebAssembly.Module(bytes)),
        { env: { memory } },
      );
      expect(new Uint8Array(memory.buffer).every((byte) => byte === 0)).toBe(true);
    },
  );
});

describe("chooseBuild", () => {
  const [node20, node22, node24, node26] = [
    "11.3.244.8-node.33",
    "12.4.254.21-node.33",
    "13.6.233.17-node.37",
    "14.6.202.34-node.40",
  ];
  const [nothing, avx2, vnni] = [[], ["avx2"], ["avx2", "avx_vnni"]].map((flags) => new Set(flags)) as [
    Set<string>,
    Set<string>,
    Set<string>,
  ];
  it.each([
    ["both, 256 bits wide", node24, vnni, { products: "dot", wide: true }],
    ["both, in a later engine", node26, vnni, { products: "dot", wide: true }],
    ["AVX2 alone", node24, avx2, { products: "relaxed", wide: true }],
    ["an engine in which 256 bits have not been tried", "15.0.1", vnni, { products: "dot", wide: false }],
    ["an engine that makes three instructions of a product", node22, vnni, { products: null, wide: false }],
    ["an engine that compiles products wrongly", node20, vnni, { products: null, wide: false }],
    ["a processor nobody describes", node24, nothing, { products: null, wide: false }],
  ] as const)("%s", (_, v8, processor, build) => {
    expect(chooseBuild({ relaxed: true, ownProcess: true, v8, processor })).toEqual({ kernels: "relaxed", ...build });
  });
  it("touches no flag of a process that is not ours", () => {
    const build = (processor: Set<string>) => chooseBuild({ relaxed: true, ownProcess: false, v8: node24!, processor });
    expect(build(vnni)).toEqual({ kernels: "relaxed", products: "dot", wide: false });
    expect(build(avx2)).toEqual({ kernels: "relaxed", products: null, wide: false });
  });
  it("has plain kernels only without relaxed SIMD", () => {
    expect(chooseBuild({ relaxed: false, ownProcess: true, v8: node24!, processor: vnni })).toEqual({
      kernels: "simd",
      products: null,
      wide: false,
    });
  });
});
