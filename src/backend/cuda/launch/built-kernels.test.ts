// The committed kernels are those of the committed sources: a git clone has no nvcc to rebuild them.

import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { describe, expect, it } from "vitest";
import { packageRoot } from "../../../paths.js";
import { KERNEL_FAMILIES } from "./kernel-modules.js";

const folder = join(packageRoot, "kernels");
const { hashKernelSources, codeOf } = (await import(pathToFileURL(join(packageRoot, "scripts", "kernel-sources.js")).href)) as {
  hashKernelSources: () => string;
  codeOf: (source: string) => string;
};
const manifest = JSON.parse(readFileSync(join(folder, "built", "manifest.json"), "utf8")) as {
  sources: string;
  targets: string[];
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
    expect(Object.keys(manifest.kernels).sort()).toEqual([...KERNEL_FAMILIES].sort());
    expect(manifest.targets).toEqual(["sm_75", "sm_80", "sm_86", "sm_89", "sm_90a", "sm_100f", "sm_120f", "compute_75"]);
    for (const [family, kernels] of Object.entries(manifest.kernels)) {
      expect(existsSync(join(folder, "built", `${family}.fatbin`))).toBe(true);
      for (const [name, targets] of Object.entries(kernels)) expect(Object.keys(targets).length, name).toBe(7);
    }
  });
});
