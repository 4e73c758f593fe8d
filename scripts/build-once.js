// Makes again only what has changed: nothing where all that would be read and all that was made are,
// byte for byte, those of the last time.

import { createHash } from "node:crypto";
import { existsSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

export const root = join(dirname(fileURLToPath(import.meta.url)), "..");

/**
 * All paths are below the repository's root; folders stand for all files in them.
 *
 * @param {object} what
 * @param {string} what.record file that keeps what there was the last time
 * @param {readonly string[]} what.inputs what is read, the programs of this repository that do it included
 * @param {() => readonly string[]} what.outputs what is written
 * @param {unknown} what.tools what else the result depends on: versions, environment
 * @param {() => Promise<void>} make rejects where it fails; nothing is recorded then
 */
export async function buildOnce({ record, inputs, outputs, tools }, make) {
  const now = () => JSON.stringify({ tools, inputs: hashes(inputs), outputs: hashes(outputs()) }, null, 1);
  const path = join(root, record);
  if (existsSync(path) && readFileSync(path, "utf8") === now()) return;
  const read = JSON.stringify(hashes(inputs));
  await make();
  // What was changed meanwhile may be in it or not.
  if (JSON.stringify(hashes(inputs)) === read) writeFileSync(path, now());
}

/** SHA-256 by path, `null` where there is no such file. */
function hashes(paths) {
  const files = paths.flatMap(filesOf).sort();
  return Object.fromEntries(files.map((path) => [path, hashOf(path)]));
}

function filesOf(path) {
  if (!statSync(join(root, path), { throwIfNoEntry: false })?.isDirectory()) return [path];
  return readdirSync(join(root, path)).flatMap((name) => filesOf(`${path}/${name}`));
}

function hashOf(path) {
  const file = join(root, path);
  return existsSync(file) ? createHash("sha256").update(readFileSync(file)).digest("hex") : null;
}
