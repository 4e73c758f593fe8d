// What the committed kernels were built from: one hash over names and contents of the sources.

import { createHash } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

export const kernelFolder = join(dirname(fileURLToPath(import.meta.url)), "..", "kernels");

/**
 * SHA-256 over .cu and .cuh files, line endings normalised.
 *
 * @param family its .cu and the shared headers only; default: everything
 */
export function hashKernelSources(family) {
  const hash = createHash("sha256");
  for (const file of readdirSync(kernelFolder).sort()) {
    if (!/\.cuh?$/.test(file)) continue;
    if (family !== undefined && file.endsWith(".cu") && file !== `${family}.cu`) continue;
    hash.update(`${file}\0${readFileSync(join(kernelFolder, file), "utf8").replaceAll("\r\n", "\n")}\0`);
  }
  return hash.digest("hex");
}
