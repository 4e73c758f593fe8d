// `npm run build`: dist/, of which only what has changed is made again; `npm run build:js` and its like
// build in any case. The kernels are compiled beside the rest.

import { spawn } from "node:child_process";
import { readdirSync } from "node:fs";
import { buildOnce, root } from "./build-once.js";

/** What every bundle depends on: the packages that are installed, and who runs their tools. */
const PACKAGES = ["package.json", "node_modules/.package-lock.json", "tsconfig.json", "scripts"];
const tools = { node: process.version, mode: process.env.NODE_ENV ?? null };

const program = {
  record: "dist/built-js.json",
  inputs: [...PACKAGES, "tsdown.config.ts", "tsconfig.declarations.json", "src", "test"],
  // What earlier builds left among it counts, too.
  outputs: () => readdirSync("dist").flatMap((name) => (/^(wasm|page|built-.*)$/.test(name) ? [] : [`dist/${name}`])),
  tools,
};
const page = {
  record: "dist/built-page.json",
  inputs: [...PACKAGES, "src", "web"],
  outputs: () => ["dist/page"],
  tools,
};

process.chdir(root);
const steps = Promise.all([
  run("scripts/build-wasm.js"),
  buildOnce(program, () => run("node_modules/tsdown/dist/run.mjs", "--logLevel", "warn")).then(() =>
    buildOnce(page, () => run("node_modules/vite/bin/vite.js", "build", "web", "--logLevel", "warn")),
  ),
]);
await steps.catch((error) => {
  console.error(error.message);
  process.exitCode = 1;
});

function run(...args) {
  const child = spawn(process.execPath, args, { stdio: "inherit" });
  return new Promise((resolve, reject) => {
    child.on("error", reject);
    child.on("close", (status) => (status === 0 ? resolve() : reject(new Error(`${args[0]} ended with ${status}`))));
  });
}
