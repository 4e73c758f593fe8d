// The command line as a whole: its commands, and how any of them ends.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { Command, CommanderError } from "commander";
import { packageRoot } from "../paths.js";
import { addBench } from "./commands/bench.js";
import { addChat } from "./commands/chat.js";
import { addDevices } from "./commands/devices.js";
import { addGenerate } from "./commands/generate.js";
import { addInspect } from "./commands/inspect.js";
import { addLogits } from "./commands/logits.js";
import { addPerplexity } from "./commands/perplexity.js";
import { addPlan } from "./commands/plan.js";
import { addServe } from "./commands/serve.js";
import { addShard } from "./commands/shard.js";
import { addTokenize } from "./commands/tokenize.js";
import { addValidate } from "./commands/validate.js";
import { exitCodeOf, reportFailure, reportUsage, USAGE_EXIT } from "./failure.js";

const EXAMPLES = `
Examples:
  exllama chat                                     talk to the small model that comes with the package
  exllama generate --prompt "Once upon a time"     go on from a text
  exllama serve                                    the OpenAI API and a web page, on this computer
  exllama plan --model ./llama-7b --ctx 4096       what it would take, before anything is loaded
  exllama perplexity --model ./llama-7b --text book.txt

Settings come from options, then from the environment (--cache-tokens is EXLLAMA_CACHE_TOKENS),
then from config.json in $XDG_CONFIG_HOME/exllama (~/.config/exllama).
Results go to standard output, everything else to standard error. With --json a failure is
{"error": {"code", "message", "hint"}} on standard output, too.
Exit codes: 0 done, 1 failed, 2 not understood, 130 interrupted. EXLLAMA_DEBUG=1 shows stacks.`;

/** Every command, ready to parse. */
export function buildProgram(): Command {
  const program = new Command("exllama")
    .description("ExLlama in TypeScript: quantised Llama models on the memory you say.")
    .version(packageVersion(), "-V, --version", "print the version")
    .helpOption("-h, --help", "show help")
    .helpCommand("help [command]", "show help for a command")
    .addHelpText("after", EXAMPLES)
    .showHelpAfterError("(--help shows what there is)")
    .exitOverride();
  addChat(program);
  addGenerate(program);
  addServe(program);
  addPlan(program);
  addInspect(program);
  addTokenize(program);
  addPerplexity(program);
  addLogits(program);
  addBench(program);
  addValidate(program);
  addShard(program);
  addDevices(program);
  return program;
}

/** Runs the program. @param args without node and the script; @returns the exit code */
export async function runProgram(args: readonly string[]): Promise<number> {
  const json = args.includes("--json");
  const program = buildProgram();
  // With --json, what commander would print about a mistake becomes the JSON error.
  if (json)
    for (const command of [program, ...program.commands])
      command.configureOutput({ writeErr: () => {} }).showHelpAfterError(false);
  if (args.length === 0) {
    program.outputHelp({ error: true });
    return USAGE_EXIT;
  }
  try {
    await program.parseAsync(args, { from: "user" });
    return Number(process.exitCode ?? 0);
  } catch (error) {
    if (error instanceof CommanderError) {
      if (error.exitCode === 0) return 0;
      if (json) reportUsage(error.message);
      return USAGE_EXIT;
    }
    reportFailure(error, { json });
    return exitCodeOf(error);
  }
}

function packageVersion(): string {
  const manifest = JSON.parse(readFileSync(join(packageRoot, "package.json"), "utf8")) as { version: string };
  return manifest.version;
}
