// What the committed kernels were built from: one hash over names and contents of the sources. Comments and empty lines do not count:
// kernels are compiled without line numbers, so what is said about them may change and they stay the same.

import { createHash } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

export const kernelFolder = join(dirname(fileURLToPath(import.meta.url)), "..", "kernels");

/**
 * SHA-256 over the code of .cu and .cuh files.
 *
 * @param family its .cu and the headers that it includes, also through others; default: everything
 */
export function hashKernelSources(family) {
  const files =
    family === undefined ? readdirSync(kernelFolder).filter((file) => /\.cuh?$/.test(file)) : included(`${family}.cu`);
  const hash = createHash("sha256");
  for (const file of [...files].sort()) hash.update(`${file}\0${codeOf(readSource(file))}\0`);
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

/** Source text without comments, which are not looked for in string literals, empty lines and spaces at the ends of lines. */
export function codeOf(source) {
  return source
    .replace(/"(?:\\.|[^"\\\n])*"|\/\/[^\n]*|\/\*[\s\S]*?\*\//g, (match) => (match.startsWith('"') ? match : " "))
    .replace(/[ \t]+$/gm, "")
    .replace(/\n{2,}/g, "\n");
}
