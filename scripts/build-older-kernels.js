// `node scripts/build-older-kernels.js`: every kernel family as cards before Hopper run it, assembled for
// Hopper: the sources compiled for compute_75 and compute_80, the code made for sm_90. With it
// `node dist/gpu/main.js --image=sm_80` runs any of the checks on an H100 through the paths that it would
// never take by itself (no tensor maps, no bulk copies, no overlapping kernels; on compute_75 no
// cp.async and half the depth of a product). What comes of it lies beside those checks in
// dist/gpu/kernels/ and is in no package; families whose sources are unchanged stay as they are.

import { spawn } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { cpus } from "node:os";
import { basename, join } from "node:path";
import { hashKernelSources, kernelFolder } from "./kernel-sources.js";

const OLDER = ["compute_75", "compute_80"];
const CODE = "sm_90";
const folder = join(kernelFolder, "..", "dist", "gpu", "kernels");

const families = readdirSync(kernelFolder)
  .filter((file) => file.endsWith(".cu"))
  .map((file) => basename(file, ".cu"))
  .sort();

const jobs = OLDER.flatMap((target) => {
  const manifestFile = join(folder, target, "manifest.json");
  const before = existsSync(manifestFile) ? JSON.parse(readFileSync(manifestFile, "utf8")).families : {};
  const sources = Object.fromEntries(families.map((family) => [family, hashKernelSources(family)]));
  mkdirSync(join(folder, target), { recursive: true });
  const changed = families.filter(
    (family) => before[family] !== sources[family] || !existsSync(join(folder, target, `${family}.fatbin`)),
  );
  return [{ target, manifestFile, sources, changed }];
});

const queue = jobs.flatMap(({ target, changed }) => changed.map((family) => ({ target, family })));
await Promise.all(
  cpus().map(async () => {
    for (let job = queue.shift(); job; job = queue.shift()) await compile(job);
  }),
);
for (const { manifestFile, sources } of jobs)
  writeFileSync(manifestFile, `${JSON.stringify({ sources: hashKernelSources(), families: sources }, null, 1)}\n`);

function compile({ target, family }) {
  const args = ["-fatbin", "--compress-mode=size", "-gencode", `arch=${target},code=${CODE}`, "-std=c++17", "-O3"];
  const limits = ["-Xptxas", "-warn-lmem-usage,-Werror"];
  const files = ["-o", join(folder, target, `${family}.fatbin`), join(kernelFolder, `${family}.cu`)];
  return new Promise((resolve) => {
    const begun = Date.now();
    const run = spawn("nvcc", [...args, ...limits, ...files], { stdio: "inherit" });
    run.on("error", (error) => fail(`nvcc cannot be started: ${error.message}`));
    run.on("exit", (code) => {
      if (code !== 0) fail(`${family} cannot be compiled for ${target}`);
      console.log(`${target} ${family.padEnd(20)} ${((Date.now() - begun) / 1000).toFixed(0)} s`);
      resolve();
    });
  });
}

function fail(message) {
  console.error(message);
  process.exit(1);
}
