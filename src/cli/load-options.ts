// The options of every command that loads a model, declared once.

import { type Command, Option } from "commander";
import { ON_CPU } from "../engine/remarks.js";
import { UsageError } from "../errors.js";
import { demoModel, type LoadOptions, loadModel, type Model } from "../index.js";
import { formatBytes } from "../memory/size.js";
import { adapterPath, contextLength, count, decimal, wholeNumber } from "./flag-values.js";
import { note } from "./output.js";
import { ProgressBar } from "./progress.js";
import { addSettableOptions } from "./settings.js";

/** As commander hands them over. */
export interface LoadFlags extends Omit<LoadOptions, "signal" | "onProgress" | "speculate" | "adapters"> {
  model?: string;
  speculate?: number;
  speculateNgram?: number;
  adapter?: Record<string, string>;
}

export const modelOption = (): Option =>
  new Option("-m, --model <folder>", "folder of the checkpoint (default: the small model that comes with the package)");

/** What a plan depends on. */
export const planOptions = (): Option[] => [
  new Option("--ctx <tokens>", "longest sequence: a number, auto (up to 8192, what fits), or max (all that fits)").argParser(
    contextLength,
  ),
  new Option("--cache <type>", "type of the KV cache").choices(["f16", "q8", "q4"]),
  new Option("--cache-tokens <n>", "size of the KV cache in tokens (default: --ctx)").argParser(count),
  new Option("--max-sequences <n>", "sequences that may run at once (default: 1)").argParser(count),
  new Option("--prefill-chunk <n>", "most prompt tokens of one step (default: 256; on GPUs up to 2048, as fits)").argParser(
    count,
  ),
  new Option("--backend <name>", "what to compute on (default: auto)").choices(["auto", "cpu", "cuda"]),
  new Option("--devices <list>", "devices to use, such as cuda:0,cuda:1 or cpu (default: all)"),
  new Option("--gpu-split <sizes>", "most memory to take per device, everything included: 5,2.5 (GiB) or 5120MiB"),
  new Option("--split-mode <mode>", "how layers are spread over devices").choices(["even", "fewest", "fill"]),
  new Option("--cpu-memory <size>", "most memory to take on the CPU, such as 8GiB (default: 80 % of what is free)"),
  new Option("--cpu-exact", "CPU: exact arithmetic in f32; slow, for comparing"),
  new Option("--rope-scale <factor>", "divide positions by this").argParser(decimal),
  new Option("--rope-alpha <alpha>", "NTK scaling of the RoPE base").argParser(decimal),
  new Option("--rope-theta <base>", "RoPE base").argParser(decimal),
  new Option("--adapter <name=path>", "a LoRA adapter to load: its name and folder; may be repeated").argParser(adapterPath),
];

const loadOptions = (): Option[] => [
  modelOption(),
  ...planOptions(),
  new Option("--threads <n>", "CPU: compute threads (default: the cores this process may use)").argParser(count),
  new Option("--no-huge-pages", "CPU: do not ask for huge pages"),
  new Option("--no-peers", "GPUs: hidden states go from card to card through host memory"),
  new Option("--engine <where>", "run the engine in a child process or in a thread (default: process)").choices([
    "process",
    "thread",
  ]),
];

/** Adds them to a command. */
export function addLoadOptions(command: Command): Command {
  return addSettableOptions(
    command,
    loadOptions().map((option) => option.helpGroup("Model, memory and machine:")),
  );
}

export const draftOption = (): Option =>
  new Option("--draft <model>", "a smaller model of the same vocabulary that guesses ahead: answers stay the same");

const speculationOptions = (): Option[] => [
  draftOption(),
  new Option(
    "--speculate <n>",
    "guesses ahead in each step, of the draft model or else of the text itself; 0 = none (default: 4 with --draft)",
  ).argParser(wholeNumber),
  new Option(
    "--speculate-ngram <n>",
    "guess from the text where its last n tokens came before, although there is a draft model; goes with --speculate",
  ).argParser(count),
];

/** The same for commands that answer. */
export function addAnsweringOptions(command: Command): Command {
  return addSettableOptions(
    addLoadOptions(command),
    speculationOptions().map((option) => option.helpGroup("Guesses ahead, which change no answer:")),
  );
}

/** The folder to load; says so where it is the package's own. */
export function modelFolder(flags: { model?: string }): string {
  if (flags.model !== undefined) return flags.model;
  note("no --model given: using the small demo model that comes with exllama-ts");
  return demoModel;
}

/**
 * Loads what the flags say, with a bar where somebody watches, runs `work` on it, and gives
 * the memory back however that ends.
 *
 * @param defaults options that stand where no flag does
 */
export async function withModel<T>(
  flags: LoadFlags,
  signal: AbortSignal,
  work: (model: Model) => Promise<T>,
  defaults: LoadOptions = {},
): Promise<T> {
  const model = await openModel(flags, signal, defaults);
  remarksOf(model);
  try {
    return await work(model);
  } finally {
    await model.dispose();
  }
}

/** What whoever starts a model should know: where it runs, and what of its files does not count. */
export function remarksOf({ plan, info }: Pick<Model, "plan" | "info">): void {
  for (const remark of plan.notes) if (remark.startsWith(ON_CPU)) note(remark);
  const { invalid } = info.sampling;
  if (invalid.length > 0) note(`generation_config.json: what it says of ${invalid.join(", ")} makes no sense and does not count`);
}

/** Loads what the flags say, with a bar where somebody watches. */
export async function openModel(flags: LoadFlags, signal: AbortSignal, defaults: LoadOptions): Promise<Model> {
  const bar = new ProgressBar("loading");
  try {
    return await loadModel(modelFolder(flags), {
      ...defaults,
      ...loadOptionsOf(flags),
      signal,
      onProgress: ({ loadedBytes, totalBytes }) =>
        bar.show(loadedBytes, totalBytes, `${formatBytes(loadedBytes)} of ${formatBytes(totalBytes)}`),
    });
  } finally {
    bar.clear();
  }
}

/** What was said, and nothing else: defaults are the library's. */
export function loadOptionsOf(flags: LoadFlags): LoadOptions {
  const { ctx, cache, cacheTokens, maxSequences, prefillChunk, backend, devices, gpuSplit, splitMode } = flags;
  const { cpuMemory, cpuExact, threads, hugePages, peers, engine, ropeScale, ropeAlpha, ropeTheta } = flags;
  const all: LoadOptions = {
    ...{ ctx, cache, cacheTokens, maxSequences, prefillChunk, backend, devices, gpuSplit, splitMode },
    ...{ cpuMemory, cpuExact, threads, engine, ropeScale, ropeAlpha, ropeTheta },
    ...(flags.draft === undefined ? {} : { draft: flags.draft }),
    ...speculateOf(flags),
    ...(flags.adapter ? { adapters: flags.adapter } : {}),
    ...(hugePages === false ? { hugePages } : {}),
    ...(peers === false ? { peers } : {}),
  };
  return Object.fromEntries(Object.entries(all).filter(([, value]) => value !== undefined));
}

/** @throws {UsageError} for a length of runs without a number of guesses */
function speculateOf({ speculate, speculateNgram: ngram }: LoadFlags): Pick<LoadOptions, "speculate"> {
  if (ngram !== undefined && !speculate)
    throw new UsageError("--speculate-ngram stands alone", { expected: "--speculate 4 --speculate-ngram 3" });
  if (speculate === undefined) return {};
  return { speculate: ngram === undefined ? speculate : { tokens: speculate, ngram } };
}
