// What the committed kernels were built from: one hash over names and contents of the sources.

import { createHash } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

export const kernelFolder = join(dirname(fileURLToPath(import.meta.url)), "..", "kernels");

/** SHA-256 over every .cu and .cuh file, line endings normalised. */
export function hashKernelSources() {
  const hash = createHash("sha256");
  for (const file of readdirSync(kernelFolder).sort()) {
    if (!/\.cuh?$/.test(file)) continue;
    hash.update(`${file}\0${readFileSync(join(kernelFolder, file), "utf8").replaceAll("\r\n", "\n")}\0`);
  }
  return hash.digest("hex");
}
