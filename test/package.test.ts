// What somebody installs: the package's own files, and koffi with one platform's library.

import { readdirSync, readFileSync, statSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { describe, expect, it } from "vitest";
import { packageRoot } from "../src/paths.js";

const manifest = JSON.parse(readFileSync(join(packageRoot, "package.json"), "utf8")) as { files: string[] };

/** Bytes of a file or of all files in a folder; 0 where it is not there. */
function bytesOf(path: string): number {
  const info = statSync(path, { throwIfNoEntry: false });
  if (!info?.isDirectory()) return info?.size ?? 0;
  return readdirSync(path).reduce((sum, name) => sum + bytesOf(join(path, name)), 0);
}

const inPackage = (path: string) => bytesOf(join(packageRoot, path));

/** Of an entry of the manifest's `files`, whose last part may have a star. */
function bytesNamed(path: string): number {
  const [before, after] = basename(path).split("*");
  if (after === undefined) return inPackage(path);
  const names = readdirSync(join(packageRoot, dirname(path))).filter((name) => name.startsWith(before!) && name.endsWith(after));
  return names.reduce((sum, name) => sum + inPackage(join(dirname(path), name)), 0);
}

describe("the package", () => {
  it("takes less than 15 MB with what it depends on, the demo model aside", () => {
    const [added, removed] = [false, true].map((minus) =>
      manifest.files.filter((path) => path.startsWith("!") === minus && path !== "demo").map((path) => path.replace("!", "")),
    );
    const named = (paths: readonly string[]) => paths.reduce((sum, path) => sum + bytesNamed(path), 0);
    const own = named(added!) - named(removed!);
    const platforms = readdirSync(join(packageRoot, "node_modules", "@koromix"));
    const koffi =
      inPackage("node_modules/koffi") + Math.max(...platforms.map((name) => inPackage(`node_modules/@koromix/${name}`)));
    expect(own).toBeGreaterThan(5e6); // dist/ is built, the kernels are there
    expect(own + koffi).toBeLessThan(15e6);
  });
});
