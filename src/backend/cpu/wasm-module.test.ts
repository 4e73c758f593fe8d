import { afterEach, describe, expect, it, vi } from "vitest";
import { chooseBuild, loadKernelModule } from "./wasm-module.js";

afterEach(() => vi.unstubAllEnvs());

describe("loadKernelModule", () => {
  it("takes a relaxed build wherever the engine has it, flag or not", async () => {
    vi.stubEnv("EXLLAMA_NO_RELAXED_SIMD", "");
    expect(["relaxed", "dot"]).toContain((await loadKernelModule()).build);
  });
  it("takes the plain build when told to", async () => {
    vi.stubEnv("EXLLAMA_NO_RELAXED_SIMD", "1");
    expect((await loadKernelModule()).build).toBe("simd");
  });
});

describe("chooseBuild", () => {
  const vnni = new Set(["avx2", "avx_vnni"]);
  it.each([
    ["an engine and a processor with the instruction", true, "13.6.233.17-node.37", vnni, "dot"],
    ["an engine that makes three instructions of it", true, "12.4.254.21-node.33", vnni, "relaxed"],
    ["an engine that compiles it wrongly", true, "11.3.244.8-node.33", vnni, "relaxed"],
    ["a processor that lacks it", true, "13.6.233.17-node.37", new Set(["avx2"]), "relaxed"],
    ["a processor nobody describes", true, "14.1.146.11-node.14", new Set<string>(), "relaxed"],
    ["no relaxed SIMD at all", false, "13.6.233.17-node.37", vnni, "simd"],
  ] as const)("%s", (_, relaxed, v8, processor, build) => {
    expect(chooseBuild({ relaxed, v8, processor })).toBe(build);
  });
});
