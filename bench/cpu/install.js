// What the benchmark takes from npm: node-llama-cpp and Node's binaries. All of it is prebuilt, no
// script of a package runs, and nothing of it belongs to the product.

import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const here = fileURLToPath(new URL(".", import.meta.url));
const FLAGS = ["--no-save", "--ignore-scripts", "--no-audit", "--no-fund"];
/** The package of Node's binaries of a platform; "win" is what it calls Windows. */
const NODE_PACKAGE = `node-${process.platform === "win32" ? "win" : process.platform}-${process.arch}`;
const NODE_BINARY = process.platform === "win32" ? "bin/node.exe" : "bin/node";

/** Installs what package.json names, unless it is there already. */
export function installDependencies() {
  if (!existsSync(join(here, "node_modules/node-llama-cpp"))) installPinned();
}

/**
 * The path of a Node from npm: the pinned one if it is of that version, else the newest there is,
 * which is kept for later runs.
 *
 * @param {string} version such as `24` or `24.22.3`
 * @throws {Error} if npm has none for this platform, or cannot be reached
 */
export function nodeFromNpm(version) {
  const pinned = pinnedNode();
  if (pinned !== null && isOf(version, pinned)) {
    const path = join(here, "node_modules", NODE_PACKAGE, NODE_BINARY);
    if (!existsSync(path)) installPinned();
    if (existsSync(path)) return path;
  }
  // A name that begins with a dot is nothing that npm would remove as unknown.
  const folder = join(here, "node_modules/.nodes", version);
  const path = join(folder, "node_modules", NODE_PACKAGE, NODE_BINARY);
  if (existsSync(path)) return path;
  mkdirSync(folder, { recursive: true });
  console.error(`installing ${NODE_PACKAGE}@${version} (once) …`);
  try {
    npm(folder, "install", "--prefix", folder, "--no-package-lock", ...FLAGS, `${NODE_PACKAGE}@${version}`);
  } catch {
    rmSync(folder, { recursive: true });
    throw new Error(
      `npm did not install Node ${version} for ${process.platform}-${process.arch}: give a path to one, --node /path/to/node`,
    );
  }
  return path;
}

/** Whether a whole version such as `24.22.3` is one of `24`, `24.22` or `24.22.3`. */
export function isOf(asked, version) {
  return version === asked || version.startsWith(`${asked}.`);
}

function pinnedNode() {
  const { optionalDependencies } = JSON.parse(readFileSync(join(here, "package.json"), "utf8"));
  return optionalDependencies[NODE_PACKAGE] ?? null;
}

/** Not `npm ci`: that insists on the packages of every platform, and not all of them have one of this version. */
function installPinned() {
  console.error("installing node-llama-cpp and Node (once) …");
  npm(here, "install", ...FLAGS);
}

function npm(folder, ...args) {
  const env = { ...process.env, NODE_LLAMA_CPP_SKIP_DOWNLOAD: "true" };
  execFileSync("npm", args, { cwd: folder, env, stdio: ["ignore", 2, 2], shell: process.platform === "win32" });
}
