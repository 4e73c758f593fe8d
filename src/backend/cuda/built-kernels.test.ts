// The committed kernels are those of the committed sources: a git clone has no nvcc to rebuild them.

import { createHash } from "node:crypto";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { packageRoot } from "../../paths.js";
import { KERNEL_FAMILIES } from "./kernel-modules.js";

const folder = join(packageRoot, "kernels");
const manifest = JSON.parse(readFileSync(join(folder, "built", "manifest.json"), "utf8")) as {
  sources: string;
  targets: string[];
  kernels: Record<string, Record<string, Record<string, { registers: number }>>>;
};

describe("built kernels", () => {
  it("were built from the sources beside them (else: npm run build:kernels)", () => {
    const hash = createHash("sha256");
    for (const file of readdirSync(folder).sort())
      if (/\.cuh?$/.test(file)) hash.update(`${file}\0${readFileSync(join(folder, file), "utf8").replaceAll("\r\n", "\n")}\0`);
    expect(manifest.sources).toBe(hash.digest("hex"));
  });

  it("are all there, for every supported card", () => {
    expect(Object.keys(manifest.kernels).sort()).toEqual([...KERNEL_FAMILIES].sort());
    expect(manifest.targets).toEqual(["sm_75", "sm_80", "sm_86", "sm_89", "sm_90a", "sm_100f", "sm_120f", "compute_75"]);
    for (const [family, kernels] of Object.entries(manifest.kernels)) {
      expect(existsSync(join(folder, "built", `${family}.fatbin`))).toBe(true);
      for (const [name, targets] of Object.entries(kernels)) expect(Object.keys(targets).length, name).toBe(7);
    }
  });
});
