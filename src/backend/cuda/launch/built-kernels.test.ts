// The committed kernels are those of the committed sources: a git clone has no nvcc to rebuild them.

import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { describe, expect, it } from "vitest";
import { packageRoot } from "../../../paths.js";
import { KERNEL_FAMILIES } from "./kernel-modules.js";

/** Families whose kernels the image for Hopper alone has. */
const HOPPER_ONLY = ["linear_batch_cluster", "linear_batch_wgmma", "linear_half_ring", "linear_head", "linear_prompt"];
const folder = join(packageRoot, "kernels");
const { hashKernelSources, codeOf } = (await import(pathToFileURL(join(packageRoot, "scripts", "kernel-sources.js")).href)) as {
  hashKernelSources: () => string;
  codeOf: (source: string) => string;
};
const read = (name: string): unknown => JSON.parse(readFileSync(join(folder, "built", name), "utf8"));
const manifest = read("manifest.json") as { sources: string; targets: string[] };
const { kernels } = read("families.json") as {
  kernels: Record<string, Record<string, Record<string, { registers: number }>>>;
};

describe("built kernels", () => {
  it("were built from the sources beside them (else: npm run build:kernels)", () => {
    expect(manifest.sources).toBe(hashKernelSources());
  });

  it("stay the same where only comments change", () => {
    const kernel = 'f(); /* two\nlines */ g("// no comment");  // one\n\nh();\n';
    expect(codeOf(kernel)).toBe('f();   g("// no comment");\nh();\n');
    expect(codeOf("a / b; // c\n")).toBe("a / b;\n");
    expect(codeOf('x = "a\\"//b"; // c')).toBe('x = "a\\"//b";');
  });

  it("are all there, for every supported card", () => {
    expect(Object.keys(kernels).sort()).toEqual([...KERNEL_FAMILIES].sort());
    expect(manifest.targets).toEqual(["sm_75", "sm_80", "sm_86", "sm_89", "sm_90a", "sm_100f", "sm_120f", "compute_75"]);
    for (const [family, ofFamily] of Object.entries(kernels)) {
      expect(existsSync(join(folder, "built", `${family}.fatbin`))).toBe(true);
      const wanted = HOPPER_ONLY.includes(family) ? ["sm_90a"] : manifest.targets.filter((target) => target.startsWith("sm_"));
      for (const [name, targets] of Object.entries(ofFamily))
        expect(Object.keys(targets).sort(), name).toEqual([...wanted].sort());
    }
  });
});
