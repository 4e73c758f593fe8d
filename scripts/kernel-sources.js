// What the committed kernels were built from: one hash over names and contents of the sources.

import { createHash } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

export const kernelFolder = join(dirname(fileURLToPath(import.meta.url)), "..", "kernels");

/**
 * SHA-256 over .cu and .cuh files, line endings normalised.
 *
 * @param family its .cu and the headers that it includes, also through others; default: everything
 */
export function hashKernelSources(family) {
  const files =
    family === undefined ? readdirSync(kernelFolder).filter((file) => /\.cuh?$/.test(file)) : included(`${family}.cu`);
  const hash = createHash("sha256");
  for (const file of [...files].sort()) hash.update(`${file}\0${readSource(file)}\0`);
  return hash.digest("hex");
}

function included(file, found = new Set()) {
  if (found.has(file)) return found;
  found.add(file);
  for (const [, header] of readSource(file).matchAll(/^#include "(.+)"/gm)) included(header, found);
  return found;
}

function readSource(file) {
  return readFileSync(join(kernelFolder, file), "utf8").replaceAll("\r\n", "\n");
}
