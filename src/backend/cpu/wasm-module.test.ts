import { afterEach, describe, expect, it, vi } from "vitest";
import { loadKernelModule } from "./wasm-module.js";

afterEach(() => vi.unstubAllEnvs());

describe("loadKernelModule", () => {
  it("takes the relaxed build wherever the engine has it, flag or not", async () => {
    vi.stubEnv("EXLLAMA_NO_RELAXED_SIMD", "");
    expect((await loadKernelModule()).relaxed).toBe(true);
  });
  it("takes the plain build when told to", async () => {
    vi.stubEnv("EXLLAMA_NO_RELAXED_SIMD", "1");
    expect((await loadKernelModule()).relaxed).toBe(false);
  });
});
