// The Nodes that exllama-ts is measured under. How fast it is on the CPU depends on V8 more than on
// anything else it can choose, so a comparison names it, and takes the fast one by itself.

import { execFileSync } from "node:child_process";
import { isVersion } from "./arguments.js";
import { isOf, nodeFromNpm } from "./install.js";

/** What is measured beside a Node without 256-bit operations. */
const WIDE_NODE = "24";
/** The versions of V8 whose 256-bit operations the engine uses: see src/backend/cpu/wide-simd.ts. */
const WIDE_V8 = ["13.6", "14.6"];

/**
 * @typedef {object} NodeUnderTest
 * @property {string} path of its binary
 * @property {string} version such as `v24.22.3`
 * @property {string} v8 its version, such as `13.6.233.17-node.37`
 * @property {boolean} running whether it is the one that runs the benchmark
 */

/** Whether the engine uses 256-bit operations under a version of V8, on a processor that has them. */
export function hasWideV8(v8) {
  return WIDE_V8.includes(v8.split(".").slice(0, 2).join("."));
}

/**
 * What is measured if nobody named a Node.
 *
 * @param {{ v8: string, platform: string, arch: string }} facts of the Node that runs
 */
export function nodesByDefault({ v8, platform, arch }) {
  // Elsewhere the engine cannot tell what the processor has, and does without.
  const couldBeWide = platform === "linux" && arch === "x64";
  return couldBeWide && !hasWideV8(v8) ? ["this", WIDE_NODE] : ["this"];
}

/**
 * Finds them, each version once.
 *
 * @param {string[] | null} named as on the command line
 * @returns {NodeUnderTest[]}
 * @throws {Error} naming the one that cannot be had or is too old
 */
export function findNodes(named) {
  const nodes = (named ?? nodesByDefault({ v8: process.versions.v8, ...process })).flatMap((name) => {
    try {
      return [findNode(name)];
    } catch (error) {
      if (named !== null) throw error;
      console.error(`not measured under Node ${name}: ${error.message}`);
      return [];
    }
  });
  return nodes.filter(({ version }, index) => nodes.findIndex((other) => other.version === version) === index);
}

function findNode(name) {
  const { node, v8 } = process.versions;
  const running = { path: process.execPath, version: process.version, v8, running: true };
  if (name === "this" || (isVersion(name) && isOf(name, node))) return running;
  const path = isVersion(name) ? nodeFromNpm(name) : name;
  const versions = askVersions(path);
  if (Number.parseInt(versions.node, 10) < 20) throw new Error(`${path} is Node ${versions.node}, exllama-ts needs 20 or newer`);
  return versions.node === node ? running : { path, version: `v${versions.node}`, v8: versions.v8, running: false };
}

function askVersions(path) {
  try {
    const stdio = ["ignore", "pipe", "ignore"];
    return JSON.parse(execFileSync(path, ["-p", "JSON.stringify(process.versions)"], { encoding: "utf8", stdio }));
  } catch (error) {
    throw new Error(`${path} does not run as Node: ${error.message.split("\n")[0]}`);
  }
}
