// What `npm run bench:gpu` measures: a job is one load of a made-up model of 4 bits in groups of
// 128, and one row that is measured on it: what is interrupted loses no other row.

import { parseArgs } from "node:util";

export const MODELS = ["7b", "13b", "llama3-8b", "70b"];
export const KINDS = ["prompt", "decode", "batch"];

/**
 * @typedef {object} Job
 * @property {string} model
 * @property {"prompt" | "decode" | "batch"} kind
 * @property {string[]} args of `exllama bench`, beside the model, the devices and how often
 */

const decode = (model, depth, ...more) => ({ model, kind: "decode", args: ["--prompt", "0", "--depth", `${depth}`, ...more] });
const prompt = (model, tokens, ...more) => ({ model, kind: "prompt", args: ["--prompt", `${tokens}`, "--tokens", "0", ...more] });
const batch = (model, sequences, ...more) => ({ ...decode(model, ...more, "--batch", `${sequences}`), kind: "batch" });

/** All jobs, in the order in which they run. */
export const JOBS = MODELS.flatMap((model) => [
  decode(model, 0, "--ctx", "2048"),
  decode(model, 1920, "--ctx", "2048"),
  decode(model, 8192, "--cache", "f16"),
  decode(model, 8192, "--cache", "q8"),
  prompt(model, 1920, "--ctx", "2048"),
  // 240 tokens before and 32 while it runs: 256 in the middle of it.
  ...(model === "7b" ? [8, 32, 128].map((sequences) => batch(model, sequences, 240, "--tokens", "32")) : []),
]);

/** The same on the small model of the package and the CPU, to try the script. */
export const TRIAL = [
  decode("demo", 0, "--tokens", "8"),
  decode("demo", 100, "--tokens", "8", "--cache", "q8"),
  prompt("demo", 100),
  batch("demo", 3, 20, "--tokens", "8"),
];

/**
 * The command line.
 *
 * @param {string[]} args
 * @returns {{ jobs: Job[], repeat: number, devices: string, out: string | null, trial: boolean, plot: string | null }}
 * @throws {Error} saying what is wrong with it
 */
export function readArguments(args) {
  const { values } = parseArgs({
    args,
    options: {
      only: { type: "string" },
      rows: { type: "string" },
      repeat: { type: "string", default: "5" },
      devices: { type: "string", default: "cuda:0" },
      out: { type: "string" },
      try: { type: "boolean", default: false },
      plot: { type: "string" },
    },
  });
  const repeat = Number(values.repeat);
  if (!Number.isInteger(repeat) || repeat < 1)
    throw new Error(`--repeat ${values.repeat}: expected a whole number of at least 1`);
  const all = values.try ? TRIAL : JOBS;
  const models = among("--only", values.only, [...new Set(all.map(({ model }) => model))]);
  const kinds = among("--rows", values.rows, KINDS);
  const jobs = all.filter(({ model, kind }) => models.includes(model) && kinds.includes(kind));
  if (jobs.length === 0) throw new Error("there are no such rows of these models");
  return { jobs, repeat, devices: values.devices, out: values.out ?? null, trial: values.try, plot: values.plot ?? null };
}

/** A list of some of what there is; all of it where nothing is said. */
function among(option, text, known) {
  const chosen = text === undefined ? known : text.split(",");
  for (const one of chosen) if (!known.includes(one)) throw new Error(`${option} ${one}: expected some of ${known.join(",")}`);
  return chosen;
}
