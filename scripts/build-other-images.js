// `node scripts/build-other-images.js`: every kernel family as other cards run it, made for Hopper: the sources
// compiled for those cards' virtual architectures, the code for sm_90, and the PTX that a card newer than all images
// compiles for itself. With it `node dist/gpu/main.js --image=sm_86` runs any of the checks on an H100 through
// the paths that it would never take by itself (before Hopper no tensor maps, no bulk copies, no overlapping
// kernels; on compute_75 no cp.async and half the depth of a product). What comes of it lies beside those
// checks in dist/gpu/kernels/ and is in no package; families whose sources are unchanged stay as they are.

import { spawn } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { cpus } from "node:os";
import { basename, join } from "node:path";
import { hashKernelSources, kernelFolder } from "./kernel-sources.js";

/** Blackwell's code is Hopper's without what only sm_90a has; where it differs from that, EXLLAMA_AS says what it is for. */
const IMAGES = {
  sm_75: ["-gencode", "arch=compute_75,code=sm_90"],
  sm_80: ["-gencode", "arch=compute_80,code=sm_90"],
  sm_86: ["-gencode", "arch=compute_86,code=sm_90"],
  sm_89: ["-gencode", "arch=compute_89,code=sm_90"],
  sm_100: ["-gencode", "arch=compute_90,code=sm_90", "-DEXLLAMA_AS=1000"],
  sm_120: ["-gencode", "arch=compute_90,code=sm_90", "-DEXLLAMA_AS=1200"],
  ptx: ["-gencode", "arch=compute_75,code=compute_75"],
};
const folder = join(kernelFolder, "..", "dist", "gpu", "kernels");

const families = readdirSync(kernelFolder)
  .filter((file) => file.endsWith(".cu"))
  .map((file) => basename(file, ".cu"))
  .sort();

const jobs = Object.keys(IMAGES).flatMap((image) => {
  const manifestFile = join(folder, image, "manifest.json");
  const before = existsSync(manifestFile) ? JSON.parse(readFileSync(manifestFile, "utf8")).families : {};
  const sources = Object.fromEntries(families.map((family) => [family, hashKernelSources(family)]));
  mkdirSync(join(folder, image), { recursive: true });
  const changed = families.filter(
    (family) => before[family] !== sources[family] || !existsSync(join(folder, image, `${family}.fatbin`)),
  );
  return [{ image, manifestFile, sources, changed }];
});

const queue = jobs.flatMap(({ image, changed }) => changed.map((family) => ({ image, family })));
await Promise.all(
  cpus().map(async () => {
    for (let job = queue.shift(); job; job = queue.shift()) await compile(job);
  }),
);
for (const { manifestFile, sources } of jobs)
  writeFileSync(manifestFile, `${JSON.stringify({ sources: hashKernelSources(), families: sources }, null, 1)}\n`);

function compile({ image, family }) {
  const args = ["-fatbin", "--compress-mode=size", ...IMAGES[image], "-std=c++17", "-O3"];
  // What the paths leave unused is no mistake here.
  const limits = ["-Xptxas", "-warn-lmem-usage,-Werror", "-diag-suppress=177"];
  const files = ["-o", join(folder, image, `${family}.fatbin`), join(kernelFolder, `${family}.cu`)];
  return new Promise((resolve) => {
    const begun = Date.now();
    const run = spawn("nvcc", [...args, ...limits, ...files], { stdio: "inherit" });
    run.on("error", (error) => fail(`nvcc cannot be started: ${error.message}`));
    run.on("exit", (code) => {
      if (code !== 0) fail(`${family} cannot be compiled as for ${image}`);
      console.log(`${image.padEnd(6)} ${family.padEnd(20)} ${((Date.now() - begun) / 1000).toFixed(0)} s`);
      resolve();
    });
  });
}

function fail(message) {
  console.error(message);
  process.exit(1);
}
