// The command line of `npm run bench:cpu`.

import { parseArgs } from "node:util";

export const HELP = `Decode and prompt speed of exllama-ts on the CPU against node-llama-cpp: the same model shape, 4 bits,
the same threads, rounds of all sides in turn in one run. Compared are medians. Whoever is started first
is slower, so half of the rounds are measured with all sides started anew, in the other order.

  npm run bench:cpu [-- options]

  --node LIST     the Nodes exllama-ts runs under, with commas between them. Each is
                    this      the Node that runs this command
                    24        a version (24, 24.22, 24.22.3): the running Node if it is one, else the
                              one that bench/cpu/package.json pins, else the newest of it on npm
                    ./node    a path to a Node: anything with a slash
                  One version is measured once, however often it is named. Where this is left out:
                  "this", and on Linux on x64 also 24 unless the running Node has 256-bit operations
                  (24 and 26 have): they are worth a quarter in decoding, and twice the speed in prompts.
                  node-llama-cpp is native code and runs under the running Node.
  --rounds 7      of each side, at least 5; one more in each order to warm up
  --threads 2     of each side
  --keep DIR      write the two random models (0.6 and 0.8 GB) to DIR, and use those already there;
                  else they go to a temporary folder and are deleted
  --no-record     do not write bench/results/cpu-<date>.json
  --help

All models stay loaded: 1.3 GB of memory, and 1.6 GB more for each Node. A round of all sides takes
20 to 30 s with two Nodes. The first run installs node-llama-cpp and Node 24 into bench/cpu/node_modules:
prebuilt, nothing is compiled.

  npm run bench:cpu -- --node this,22,24 --keep /tmp/models --no-record
`;

/**
 * @param {string[]} args
 * @returns {{ help: boolean, nodes: string[] | null, rounds: number, threads: number, keep: string | null,
 *   record: boolean }} `nodes`: as they are named, each once; `null` where nobody named any
 * @throws {Error} saying what is wrong with it
 */
export function readArguments(args) {
  const { values } = parseArgs({
    args,
    options: {
      node: { type: "string" },
      rounds: { type: "string", default: "7" },
      threads: { type: "string", default: "2" },
      keep: { type: "string" },
      "no-record": { type: "boolean", default: false },
      help: { type: "boolean", short: "h", default: false },
    },
  });
  return {
    help: values.help,
    nodes: values.node === undefined ? null : nodesNamed(values.node),
    rounds: wholeNumber("rounds", values.rounds, 5),
    threads: wholeNumber("threads", values.threads, 1),
    keep: values.keep ?? null,
    record: !values["no-record"],
  };
}

function nodesNamed(text) {
  const names = text.split(",").map((name) => name.trim());
  for (const name of names)
    if (name !== "this" && !isVersion(name) && !isPath(name))
      throw new Error(`--node ${text}: expected "this", a version such as 24 or a path such as ./node, not "${name}"`);
  return [...new Set(names)];
}

/** `24`, `24.22` or `24.22.3`. */
export function isVersion(name) {
  return /^\d+(\.\d+){0,2}$/.test(name);
}

function isPath(name) {
  return /[/\\]/.test(name);
}

function wholeNumber(name, text, least) {
  const value = Number(text);
  if (Number.isInteger(value) && value >= least) return value;
  throw new Error(`--${name} ${text}: expected a whole number of at least ${least}`);
}
