// Decode and prompt speed of exllama-ts against node-llama-cpp: the same model shape, four
// bits, two threads, on one machine in one run. Rounds of both sides alternate and each is a
// fresh measurement, so that other work on the machine falls on both; medians are compared.
//
//   npm run bench:cpu [-- --rounds 7] [--threads 2] [--keep DIR] [--no-record]
//
// The first run installs node-llama-cpp (prebuilt, from npm; nothing is compiled) into
// bench/cpu/node_modules and writes two random models of 0.6 and 0.8 GB to a temporary folder;
// `--keep DIR` writes them to DIR instead and uses those already there.

import { execFileSync, fork } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { cpus, tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { writeGguf } from "./gguf.js";
import { writeGptq } from "./gptq.js";
import { DECODE_TOKENS, PROMPT_TOKENS } from "./rounds.js";

const here = fileURLToPath(new URL(".", import.meta.url));
const root = join(here, "../..");

/** What issue and README promise, as a share of node-llama-cpp's speed. */
const GOALS = { plain: { decode: 1.1, prompt: 0.38 }, huge: { decode: 1.3, prompt: 0.38 } };
const KINDS = ["decode", "prompt"];

const { values: options } = parseArgs({
  options: {
    rounds: { type: "string", default: "7" },
    threads: { type: "string", default: "2" },
    keep: { type: "string" },
    "no-record": { type: "boolean", default: false },
  },
});
const rounds = wholeNumber("rounds", options.rounds, 5);
const threads = wholeNumber("threads", options.threads, 1);

function wholeNumber(name, text, least) {
  const value = Number(text);
  if (Number.isInteger(value) && value >= least) return value;
  console.error(`--${name} ${text}: expected a whole number of at least ${least}`);
  process.exit(2);
}

function install() {
  if (!existsSync(join(root, "dist/index.js"))) throw new Error("dist/ is missing: run `npm run build` first");
  if (existsSync(join(here, "node_modules/node-llama-cpp"))) return;
  console.error("installing node-llama-cpp (once) …");
  const env = { ...process.env, NODE_LLAMA_CPP_SKIP_DOWNLOAD: "true" };
  // Not `npm ci`: that insists on the packages of every platform, and not all of them have one of
  // this version. Nothing is compiled or downloaded by scripts, and the lock file stays as it is.
  const args = ["install", "--no-save", "--ignore-scripts", "--no-audit", "--no-fund"];
  execFileSync("npm", args, { cwd: here, env, stdio: ["ignore", 2, 2], shell: process.platform === "win32" });
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

/** Starts one side and waits until its model is loaded. */
async function start(script, args) {
  const child = fork(join(here, script), args.map(String));
  const answer = () =>
    new Promise((resolve, reject) => {
      const ended = (code) => reject(new Error(`${script} ended with ${code}`));
      child.once("exit", ended);
      child.once("message", (message) => {
        child.off("exit", ended);
        if (message.error) reject(new Error(message.error));
        else resolve(message);
      });
    });
  const { ready } = await answer();
  return {
    about: ready,
    stop: () => child.disconnect(),
    measure: async (kind) => {
      const measured = answer();
      child.send(kind);
      return (await measured).tokensPerSecond;
    },
  };
}

async function measureAll(sides) {
  const rates = Object.fromEntries(Object.keys(sides).map((name) => [name, { decode: [], prompt: [] }]));
  const names = Object.keys(sides);
  for (let round = 0; round <= rounds; round++) {
    for (const kind of KINDS) {
      // Each round begins with another side: none always follows the same neighbour.
      for (let turn = 0; turn < names.length; turn++) {
        const name = names[(round + turn) % names.length];
        const rate = await sides[name].measure(kind);
        if (round > 0) rates[name][kind].push(rate); // round 0 warms up
      }
    }
    console.error(`round ${round} of ${rounds}${round === 0 ? " (warm-up)" : ""}`);
  }
  return rates;
}

function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

function summarise(sides, rates) {
  const result = {};
  for (const [name, side] of Object.entries(sides)) {
    result[name] = { ...side.about };
    for (const kind of KINDS) {
      const rate = median(rates[name][kind]);
      const ratio = rate / median(rates.llama[kind]);
      const goal = GOALS[name]?.[kind] ?? null;
      result[name][kind] = { tokensPerSecond: rate, ratio, goal, rounds: rates[name][kind] };
    }
  }
  return result;
}

function print(result) {
  const rows = [["", `decode ${DECODE_TOKENS} tok/s`, "ratio", `prompt ${PROMPT_TOKENS} tok/s`, "ratio"]];
  const ratioOf = ({ ratio, goal }) => (goal === null ? "1" : `${ratio.toFixed(2)} ${ratio >= goal ? "≥" : "<"} ${goal}`);
  for (const { engine, version, decode, prompt } of Object.values(result)) {
    const figures = [decode, prompt].flatMap((kind) => [kind.tokensPerSecond.toFixed(1), ratioOf(kind)]);
    rows.push([`${engine} ${version}`, ...figures]);
  }
  const widths = rows[0].map((_, column) => Math.max(...rows.map((row) => row[column].length)));
  const line = (row) => row.map((cell, i) => (i === 0 ? cell.padEnd(widths[i]) : cell.padStart(widths[i]))).join("   ");
  console.log(`TinyLlama-1.1B shape, 4 bits, ${threads} threads, ${cpus()[0].model}, Node ${process.version}`);
  console.log(`medians of ${rounds} interleaved rounds; goals beside the ratios\n`);
  for (const row of rows) console.log(line(row));
}

function record(result) {
  const date = new Date().toISOString().slice(0, 10);
  const git = (...args) => execFileSync("git", args, { cwd: root, encoding: "utf8" }).trim();
  const commit = existsSync(join(root, ".git")) ? git("rev-parse", "--short=12", "HEAD") : null;
  const machine = {
    cpu: cpus()[0].model,
    cores: cpus().length,
    node: process.version,
    platform: `${process.platform}-${process.arch}`,
  };
  const folder = join(root, "bench/results");
  mkdirSync(folder, { recursive: true });
  const path = join(folder, `cpu-${date}.json`);
  writeFileSync(path, `${JSON.stringify({ date, commit, machine, threads, rounds, result }, null, 2)}\n`);
  console.log(`\nrecorded in bench/results/cpu-${date}.json`);
}

install();
const folder = options.keep ?? mkdtempSync(join(tmpdir(), "exllama-bench-"));
const sides = {};
try {
  const { gguf, gptq } = writeModels(folder);
  sides.llama = await start("llama-side.js", [gguf, threads]);
  sides.plain = await start("our-side.js", [gptq, threads, "plain"]);
  sides.huge = await start("our-side.js", [gptq, threads, "huge"]);
  const result = summarise(sides, await measureAll(sides));
  print(result);
  if (!options["no-record"]) record(result);
} finally {
  for (const side of Object.values(sides)) side.stop();
  if (!options.keep) rmSync(folder, { recursive: true, force: true });
}
