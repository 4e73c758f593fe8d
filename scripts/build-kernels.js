// `npm run build:kernels`: compiles every kernel family (kernels/*.cu) with nvcc into one
// compressed fatbin for all supported cards, and writes what it was built from. Families whose
// sources and headers are those they were built from stay as they are; `--all` rebuilds every one.
//
// The results are committed (kernels/built/): a git clone and the npm package need no CUDA
// toolkit, and kernels/built/manifest.json holds a hash of the sources that a test compares, so
// that kernels and sources cannot drift apart. families.json beside it is for this program and
// tests alone: what each family was built from, and what its kernels take.
//
// A kernel that uses local memory, printf or device malloc is refused: each would make the driver
// take memory that no plan knows of.

import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { cpus } from "node:os";
import { basename, join } from "node:path";
import { hashKernelSources, kernelFolder } from "./kernel-sources.js";

const built = join(kernelFolder, "built");
// Hopper's image is sm_90a (wgmma, setmaxnreg); Blackwell's are the family ones; PTX is for what comes later.
const TARGETS = ["sm_75", "sm_80", "sm_86", "sm_89", "sm_90a", "sm_100f", "sm_120f"];
const FALLBACK_PTX = "compute_75";

const manifestFile = join(built, "manifest.json");
const familiesFile = join(built, "families.json");
const before = { ...readJson(manifestFile), ...readJson(familiesFile) };
const version = nvccVersion();
const all = process.argv.includes("--all") || before.nvcc !== version;
const families = readdirSync(kernelFolder)
  .filter((file) => file.endsWith(".cu"))
  .map((file) => basename(file, ".cu"))
  .sort();

mkdirSync(built, { recursive: true });
const kernels = {};
const familySources = {};
for (const family of families) {
  const output = join(built, `${family}.fatbin`);
  familySources[family] = hashKernelSources(family);
  if (!all && before.familySources?.[family] === familySources[family] && existsSync(output)) {
    kernels[family] = before.kernels[family];
    continue;
  }
  const started = Date.now();
  rmSync(output, { force: true });
  const log = compile(family, output);
  kernels[family] = readResources(family, log);
  refusePtx(family);
  console.log(
    `${family.padEnd(18)} ${Object.keys(kernels[family]).length} kernels, ${((Date.now() - started) / 1000).toFixed(0)} s`,
  );
}
writeJson(manifestFile, { nvcc: version, targets: [...TARGETS, FALLBACK_PTX], sources: hashKernelSources() });
writeJson(familiesFile, { familySources, kernels });

function readJson(path) {
  return existsSync(path) ? JSON.parse(readFileSync(path, "utf8")) : {};
}

function writeJson(path, value) {
  writeFileSync(path, `${JSON.stringify(value, null, 1)}\n`);
}

function compile(family, output) {
  const targets = TARGETS.flatMap((target) => ["-gencode", `arch=${target.replace("sm_", "compute_")},code=${target}`]);
  return nvcc([
    "-fatbin",
    "--compress-mode=size",
    ...targets,
    "-gencode",
    `arch=${FALLBACK_PTX},code=${FALLBACK_PTX}`,
    "-std=c++17",
    "-O3",
    "-t",
    String(Math.min(cpus().length, TARGETS.length)),
    "-Xptxas",
    "-v,-warn-lmem-usage,-Werror",
    "-o",
    output,
    join(kernelFolder, `${family}.cu`),
  ]);
}

/** Registers and shared memory of each kernel per target, from the assembler's report; local memory is an error. */
function readResources(family, log) {
  const report = {};
  let current;
  for (const line of log.split("\n")) {
    const entry = /Compiling entry function '(\w+)' for '(\w+)'/.exec(line);
    if (entry) current = { name: entry[1], target: entry[2] };
    const stack = /(\d+) bytes stack frame/.exec(line);
    if (stack && Number(stack[1]) > 0)
      fail(`${family}: ${current?.name} uses ${stack[1]} bytes of local memory on ${current?.target}`);
    const used = /Used (\d+) registers(?:.*?, (\d+) bytes smem)?/.exec(line);
    if (used && current) {
      report[current.name] ??= {};
      report[current.name][current.target] = { registers: Number(used[1]), shared: Number(used[2] ?? 0) };
    }
  }
  if (Object.keys(report).length === 0) fail(`${family}: the assembler reported no kernel`);
  return report;
}

function refusePtx(family) {
  const ptx = nvcc(["-ptx", "-arch=compute_75", "-std=c++17", "-o", "-", join(kernelFolder, `${family}.cu`)]);
  for (const name of ["vprintf", "malloc", "__assertfail"]) {
    if (new RegExp(`\\b${name}\\b`).test(ptx)) fail(`${family}: calls ${name} on the device`);
  }
}

function nvcc(args) {
  const run = spawnSync("nvcc", args, { encoding: "utf8", maxBuffer: 1 << 28 });
  if (run.error) fail("nvcc is not on the PATH; building kernels needs CUDA 13.0 or newer (using them does not)");
  if (run.status !== 0) fail(`${run.stdout}${run.stderr}`);
  return `${run.stdout}${run.stderr}`;
}

function nvccVersion() {
  const match = /release (\d+)\.(\d+), V([\d.]+)/.exec(nvcc(["--version"]));
  if (!match || Number(match[1]) < 13) fail(`nvcc 13.0 or newer is needed, this is ${match?.[3] ?? "unknown"}`);
  return match[3];
}

function fail(message) {
  console.error(message);
  process.exit(1);
}
