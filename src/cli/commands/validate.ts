// exllama validate: whether this machine computes a model the way it should, by computing the same
// text in every way there is: a prompt and token by token, in chunks, alone and in a batch, again,
// and exactly.

import type { Command } from "commander";
import { UsageError } from "../../errors.js";
import { type LoadOptions, loadTokenizer } from "../../index.js";
import { type AdapterFlags, adapterChoicesOf, useAdapterOption } from "../adapter-options.js";
import { FAILURE_EXIT } from "../failure.js";
import { count, decimal } from "../flag-values.js";
import { readIdsFile, readTextFile } from "../input-files.js";
import { interruptible } from "../interrupt.js";
import { addLoadOptions, type LoadFlags, modelFolder, openModel } from "../load-options.js";
import { note, printJson } from "../output.js";
import { applySettings } from "../settings.js";
import { styleFor } from "../style.js";
import { verdictLines } from "../validation/lines.js";
import { type Validation, validate } from "../validation/run.js";

interface Flags extends LoadFlags, AdapterFlags {
  ids?: string;
  text?: string;
  tokens: number;
  exact?: boolean;
  allowed?: number;
  json?: boolean;
}

/** Largest differences of perplexity to the exact path that the project promises, percent. */
const PROMISED = { cpu: 0.5, cuda: 0.1 } as const;

const ABOUT = `
Computes one text in every way there is and compares the log-probabilities of its tokens: again,
in a batch, token by token, in chunks, loaded anew, and on the exact path (f32 throughout, on the
CPU). On the CPU all but the last must give the same bits; on GPUs other numbers of tokens take
other kernels, whose perplexities must agree within 0.1 %. Where bits may differ, three standard
errors of the difference are left to chance: a longer text leaves less. Without a text the model
writes one itself, from a fixed seed. Exit code 1: a check failed.

Examples:
  exllama validate
  exllama validate --model ./llama-7b --text book.txt --tokens 512
  exllama validate --model ./llama-7b --devices cuda:0 --exact --json`;

export function addValidate(program: Command): void {
  const command = program
    .command("validate")
    .description("compute a text in every way there is, and compare")
    .addHelpText("after", ABOUT);
  command
    .option("--text <file>", "the text; - is standard input (default: one that the model writes)")
    .option("--ids <file>", "the text as a JSON array of token ids")
    .option("-n, --tokens <n>", "tokens of the text that are predicted", count, 512)
    .option("--exact", "also against the exact path (default on the CPU); takes four bytes per weight")
    .option("--no-exact", "not against the exact path")
    .option(
      "--allowed <percent>",
      "largest difference to the exact path's perplexity (default: 0.5 on the CPU, 0.1 on GPUs)",
      decimal,
    )
    .option("--json", "print one JSON line");
  addLoadOptions(command.addOption(useAdapterOption()));
  command.action(async () => {
    applySettings(command);
    await run(command.opts<Flags>());
  });
}

async function run(flags: Flags): Promise<void> {
  if (flags.text !== undefined && flags.ids !== undefined)
    throw new UsageError("there is more than one text", { expected: "one of --text and --ids, or none" });
  if (flags.ctx !== undefined || flags.cacheTokens !== undefined || flags.maxSequences !== undefined)
    throw new UsageError("validate chooses the context and the number of sequences itself", {
      hint: "Leave --ctx, --cache-tokens and --max-sequences out; --tokens says how long the text is.",
    });
  if (flags.allowed !== undefined && !(flags.allowed > 0))
    throw new UsageError(`--allowed is ${flags.allowed}`, { expected: "a number of percent above 0" });
  const ids = await readIds(flags);
  if (ids !== null && ids.length < 2)
    throw new UsageError("there is nothing to predict", { expected: "a text of at least two tokens" });
  const folder = modelFolder(flags);
  const { adapters = [] } = adapterChoicesOf(flags);
  const validation = await interruptible((signal) =>
    validate({
      open: (options) => openModel({ ...flagsFor(flags, options), model: folder }, signal, {}),
      ids,
      tokens: ids === null ? flags.tokens : Math.min(flags.tokens, ids.length - 1),
      allowedToExact: (backend) => (exactWanted(flags, backend) ? (flags.allowed ?? PROMISED[backend]) / 100 : null),
      adapters,
      signal,
      onCheck: (name) => {
        if (process.stderr.isTTY) note(name);
      },
    }),
  );
  report(validation, flags, folder);
  if (validation.verdicts.some(({ ok }) => !ok)) process.exitCode = FAILURE_EXIT;
}

async function readIds(flags: Flags): Promise<number[] | null> {
  if (flags.ids !== undefined) return readIdsFile(flags.ids);
  if (flags.text === undefined) return null;
  const text = readTextFile(flags.text);
  return (await loadTokenizer(modelFolder(flags))).encode(text);
}

/** The exact path is the CPU's: what was said of GPUs and of the cache's type does not go with it. */
function flagsFor(flags: Flags, { cpuExact, ...options }: LoadOptions): LoadFlags {
  const all: LoadFlags = { ...flags, ...(options as LoadFlags) };
  if (!cpuExact) return all;
  const { devices, gpuSplit, splitMode, cache, peers, ...rest } = all;
  return { ...rest, backend: "cpu", cpuExact };
}

function exactWanted({ exact, cpuExact }: Flags, backend: Validation["backend"]): boolean {
  if (cpuExact) return false; // it is the one that everything else is held against
  return exact ?? backend === "cpu";
}

function report({ backend, tokens, verdicts }: Validation, flags: Flags, model: string): void {
  const ok = verdicts.every((verdict) => verdict.ok);
  if (flags.json) printJson({ ok, model, backend, tokens, checks: verdicts });
  else
    for (const line of verdictLines({ backend, tokens, verdicts }, styleFor(process.stdout))) process.stdout.write(`${line}\n`);
}
