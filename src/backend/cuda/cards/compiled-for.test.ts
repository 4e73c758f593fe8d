import { describe, expect, it } from "vitest";
import { FAKE_CARD, FakeCuda } from "../../../../test/support/fake-cuda.js";
import { CudaDriver } from "../driver/driver.js";
import { builtTargets, compiledFor } from "./compiled-for.js";
import { DeviceContext } from "./device-context.js";

const capability = (text: string) => {
  const [major, minor] = text.split(".").map(Number);
  return { major: major!, minor: minor! };
};

describe("compiledFor", () => {
  it.each([
    ["7.5", "7.5"],
    ["8.0", "8.0"],
    ["8.6", "8.6"],
    ["8.7", "8.6"],
    ["8.9", "8.9"],
    ["9.0", "9.0"],
    ["10.0", "10.0"],
    ["10.3", "10.0"],
    ["12.0", "12.0"],
    ["12.1", "12.0"],
  ])("a card of %s runs the image of %s", (card, image) => {
    expect(compiledFor(capability(card), builtTargets())).toEqual(capability(image));
  });

  it.each(["11.0", "13.0", "9.1"])("a card of %s, which no image is for, runs the oldest one's PTX", (card) => {
    expect(compiledFor(capability(card), builtTargets())).toEqual(capability("7.5"));
  });

  it("refuses a card that is older than all", () => {
    expect(() => compiledFor(capability("7.0"), builtTargets())).toThrow("no kernels were built for compute capability 7.0");
    expect(() => compiledFor(capability("9.0"), ["gfx90a"])).toThrow("gfx90a is no target of nvcc");
  });

  it("is what launches are made for", () => {
    const cuda = new FakeCuda([{ ...FAKE_CARD, capability: [13, 0] }]);
    const gpu = DeviceContext.open(new CudaDriver(cuda.functions()), 0, "cuda:0");
    expect(gpu.card).toMatchObject({ major: 7, minor: 5, sharedPerBlock: 232448 });
    gpu.close();
  });
});
