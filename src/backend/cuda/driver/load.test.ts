import { describe, expect, it } from "vitest";
import { loadCuda, loadNvml } from "./load.js";

describe("the driver's libraries", () => {
  it("are not blamed where koffi cannot be loaded", () => {
    const require = () => {
      throw new Error("Cannot find the native Koffi module; did you bundle it correctly?\nmore");
    };
    for (const load of [loadCuda, loadNvml])
      expect(() => load(require)).toThrow(
        expect.objectContaining({
          code: "CUDA_BINDING_MISSING",
          message: expect.stringMatching(
            /^koffi, .* cannot be loaded: Cannot find the native Koffi module; did you bundle it correctly\?$/,
          ),
        }),
      );
  });

  it("are missing where there is no driver", () => {
    const require = () => ({
      load: () => {
        throw new Error("Failed to load shared library");
      },
    });
    expect(() => loadCuda(require)).toThrow(expect.objectContaining({ code: "CUDA_DRIVER_MISSING" }));
  });
});
