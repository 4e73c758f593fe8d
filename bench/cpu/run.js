// Decode and prompt speed of exllama-ts against node-llama-cpp: the same model shape, four
// bits, two threads, on one machine in one run. Rounds of all sides alternate and each is a
// fresh measurement, so that other work on the machine falls on all; medians are compared.
// Our side runs under one Node or several, for V8 decides how fast it is.
//
//   npm run bench:cpu [-- --node this,24] [--rounds 7] [--threads 2] [--keep DIR] [--no-record]
//
// `--help` says what they are.

import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { cpus, tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { HELP, readArguments } from "./arguments.js";
import { writeGguf } from "./gguf.js";
import { writeGptq } from "./gptq.js";
import { installDependencies } from "./install.js";
import { findNodes, hasWideV8 } from "./nodes.js";
import { describeResult, sideName, summarise } from "./report.js";
import { measureInTurns, startSide } from "./sides.js";

const root = fileURLToPath(new URL("../..", import.meta.url));

async function main() {
  const { help, nodes: named, rounds, threads, keep, record } = orStop(2, () => readArguments(process.argv.slice(2)));
  if (help) return console.log(HELP);
  if (!existsSync(join(root, "dist/index.js"))) return stop("dist/ is missing: run `npm run build` first");
  installDependencies();
  const nodes = orStop(1, () => findNodes(named));
  const result = await compare({ nodes, rounds, threads, keep });
  console.log(`TinyLlama-1.1B shape, 4 bits, ${threads} threads, ${cpus()[0].model}`);
  console.log(`medians of ${rounds} interleaved rounds, half of them started in the other order; goals beside the ratios\n`);
  console.log(describeResult(result));
  const narrow = nodes.filter(({ v8 }) => !hasWideV8(v8)).map(({ version }) => version);
  if (narrow.length > 0)
    console.log(`\nUnder Node ${narrow.join(", ")} there are no 256-bit operations; under 24 and 26 there are (Linux on x64).`);
  if (record) writeRecord({ threads, rounds, result });
}

async function compare({ nodes, rounds, threads, keep }) {
  const folder = keep ?? mkdtempSync(join(tmpdir(), "exllama-bench-"));
  try {
    const { gguf, gptq } = writeModels(folder);
    const ours = nodes.flatMap((node) => ["plain", "huge"].map((pages) => ({ node, pages })));
    const { sides, rates } = await measureInTurns(rounds, {
      llama: () => startSide("llama-side.js", [gguf, threads]),
      ...Object.fromEntries(
        ours.map(({ node, pages }) => [sideName(pages, node), () => startSide("our-side.js", [gptq, threads, pages], node.path)]),
      ),
    });
    return summarise(sides, rates);
  } finally {
    if (keep === null) rmSync(folder, { recursive: true, force: true });
  }
}

function writeModels(folder) {
  mkdirSync(folder, { recursive: true });
  const paths = { gguf: join(folder, "model.gguf"), gptq: join(folder, "gptq") };
  // A file is complete once its mark is there: an interrupted run must not be taken for one.
  const make = (write, path) => {
    if (existsSync(`${path}.complete`)) return;
    console.error(`writing ${path} …`);
    write(path);
    writeFileSync(`${path}.complete`, "");
  };
  make(writeGguf, paths.gguf);
  make(writeGptq, paths.gptq);
  return paths;
}

function writeRecord(measured) {
  const date = new Date().toISOString().slice(0, 10);
  const git = (...args) => execFileSync("git", args, { cwd: root, encoding: "utf8" }).trim();
  const commit = existsSync(join(root, ".git")) ? git("rev-parse", "--short=12", "HEAD") : null;
  const machine = {
    cpu: cpus()[0].model,
    cores: cpus().length,
    node: process.version,
    platform: `${process.platform}-${process.arch}`,
  };
  const name = `bench/results/cpu-${date}.json`;
  mkdirSync(join(root, "bench/results"), { recursive: true });
  writeFileSync(join(root, name), `${JSON.stringify({ date, commit, machine, ...measured }, null, 2)}\n`);
  console.log(`\nrecorded in ${name}`);
}

/** What it returns, or an end with its message. */
function orStop(status, task) {
  try {
    return task();
  } catch (error) {
    return stop(error.message, status);
  }
}

function stop(message, status = 1) {
  console.error(message);
  process.exit(status);
}

await main();
