// The command line as a whole: its commands, and how any of them ends.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { Command, CommanderError } from "commander";
import { packageRoot } from "../paths.js";
import { exitCodeOf, reportFailure, reportUsage, USAGE_EXIT } from "./failure.js";

type AddCommand = (program: Command) => void;

/** In the order of the help. Each is read when it is asked for: none needs more than a part of what the others need. */
const COMMANDS: Readonly<Record<string, () => Promise<AddCommand>>> = {
  chat: async () => (await import("./commands/chat.js")).addChat,
  generate: async () => (await import("./commands/generate.js")).addGenerate,
  serve: async () => (await import("./commands/serve.js")).addServe,
  plan: async () => (await import("./commands/plan.js")).addPlan,
  inspect: async () => (await import("./commands/inspect.js")).addInspect,
  tokenize: async () => (await import("./commands/tokenize.js")).addTokenize,
  perplexity: async () => (await import("./commands/perplexity.js")).addPerplexity,
  logits: async () => (await import("./commands/logits.js")).addLogits,
  bench: async () => (await import("./commands/bench.js")).addBench,
  validate: async () => (await import("./commands/validate.js")).addValidate,
  shard: async () => (await import("./commands/shard.js")).addShard,
  devices: async () => (await import("./commands/devices.js")).addDevices,
};

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

/**
 * The program, ready to parse.
 *
 * @param first the first argument: where it names a command, that one is there alone; default: every command
 */
export async function buildProgram(first?: string): Promise<Command> {
  const program = new Command("exllama")
    .description("ExLlama in TypeScript: quantised Llama models on the memory you say.")
    .version(packageVersion(), "-V, --version", "print the version")
    .helpOption("-h, --help", "show help")
    .helpCommand("help [command]", "show help for a command")
    .addHelpText("after", EXAMPLES)
    .showHelpAfterError("(--help shows what there is)")
    .exitOverride();
  const all = Object.keys(COMMANDS);
  const wanted = all.filter((name) => name === first);
  const add = await Promise.all((wanted.length > 0 ? wanted : all).map((name) => COMMANDS[name]!()));
  for (const one of add) one(program);
  return program;
}

/** Runs the program. @param args without node and the script; @returns the exit code */
export async function runProgram(args: readonly string[]): Promise<number> {
  const json = args.includes("--json");
  const program = await buildProgram(args[0]);
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
