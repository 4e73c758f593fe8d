// Where the package lies. Bundling moves code between files, so nothing is addressed
// relative to its own module: the package's root is found once, and files that are started
// or read by name (workers, WebAssembly, the demo model) are found from there.

import { existsSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

/** Folder of the package's package.json. */
export const packageRoot: string = findRoot(dirname(fileURLToPath(import.meta.url)));

/** A built file, e.g. `distFile("backend/cpu/worker.js")`; tests that run from sources use it too. */
export function distFile(path: string): string {
  return join(packageRoot, "dist", path);
}

function findRoot(from: string): string {
  for (let folder = from; ; folder = dirname(folder)) {
    const manifest = join(folder, "package.json");
    if (existsSync(manifest) && (JSON.parse(readFileSync(manifest, "utf8")) as { name?: string }).name === "exllama-ts")
      return folder;
    if (dirname(folder) === folder) throw new Error(`no exllama-ts package around ${from}`);
  }
}
