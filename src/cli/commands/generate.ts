// exllama generate: go on from a prompt.

import type { Command } from "commander";
import { UsageError } from "../../errors.js";
import { EmptyPromptError, type Generation, type GenerationResult, type Model } from "../../index.js";
import { type AnswerFlags, addAnswerOptions, answerOptionsOf } from "../answer-options.js";
import { tokenIds } from "../flag-values.js";
import { readTextFile } from "../input-files.js";
import { InterruptedError, interruptible } from "../interrupt.js";
import { addAnsweringOptions, type LoadFlags, withModel } from "../load-options.js";
import { grouped, note, printJson, seconds } from "../output.js";
import { applySettings } from "../settings.js";
import { addStrategyOptions, placesFor, type StrategyFlags, strategyOptionsOf } from "../strategy-options.js";

interface Flags extends LoadFlags, AnswerFlags, StrategyFlags {
  prompt?: string;
  promptIds?: number[];
  promptFile?: string;
  chat?: boolean;
  system?: string;
  parseSpecial?: boolean;
  bos?: boolean;
  json?: boolean;
}

const EXAMPLES = `
Examples:
  exllama generate --prompt "Once upon a time" --max-tokens 100
  exllama generate --chat --prompt "Tell me a story about a brave fox"
  exllama generate --prompt-file notes.txt --temperature 0 --json
  cat notes.txt | exllama generate --prompt-file -`;

export function addGenerate(program: Command): void {
  const command = program.command("generate").description("go on from a prompt").addHelpText("after", EXAMPLES);
  command
    .option("-p, --prompt <text>", "the prompt")
    .option("--prompt-ids <ids>", "the prompt as token ids, such as 1,5,7; nothing is added to them", tokenIds)
    .option("--prompt-file <file>", "the prompt from a file; - is standard input")
    .option("--chat", "answer the prompt through the model's chat template")
    .option("--system <text>", "with --chat: a system message in front")
    .option("--parse-special", "spellings such as <|end|> in the prompt become special tokens")
    .option("--no-bos", "do not begin the prompt with the BOS token")
    .option("--json", "print one JSON line instead of text");
  addAnsweringOptions(addStrategyOptions(addAnswerOptions(command)));
  command.action(async () => {
    applySettings(command);
    await generate(command.opts<Flags>());
  });
}

async function generate(flags: Flags): Promise<void> {
  const prompt = promptOf(flags);
  const places = placesFor(flags, flags.ctx);
  const work = async (model: Model, signal: AbortSignal) => {
    const answer = start(model, prompt, flags, signal);
    if (flags.json) await printWhole(answer);
    else await stream(answer);
  };
  await interruptible((signal) => withModel(flags, signal, (model) => work(model, signal), places));
}

function promptOf(flags: Flags): string | number[] {
  const given = [flags.prompt, flags.promptIds, flags.promptFile].filter((value) => value !== undefined);
  if (given.length !== 1)
    throw new UsageError(given.length === 0 ? "there is no prompt" : "there is more than one prompt", {
      expected: "one of --prompt, --prompt-ids and --prompt-file",
    });
  if (flags.promptIds && (flags.chat || flags.parseSpecial || flags.bos === false))
    throw new UsageError("--prompt-ids is taken as it is: --chat, --parse-special and --no-bos do not go with it");
  if (flags.chat && (flags.parseSpecial || flags.bos === false))
    throw new UsageError("with --chat the template decides on special tokens: --parse-special and --no-bos do not go with it");
  if (flags.system !== undefined && !flags.chat) throw new UsageError("--system goes with --chat only");
  const prompt = flags.promptIds ?? flags.prompt ?? readTextFile(flags.promptFile!);
  // A BOS alone could be gone on from, but an empty text is far more often a mistake.
  if (prompt.length === 0) throw new EmptyPromptError();
  return prompt;
}

function start(model: Model, prompt: string | number[], flags: Flags, signal: AbortSignal): Generation {
  const options = { ...answerOptionsOf(flags), ...strategyOptionsOf(flags), signal };
  if (typeof prompt !== "string") return model.generate(prompt, options);
  if (flags.chat) {
    const system = flags.system === undefined ? [] : [{ role: "system", content: flags.system }];
    return model.chat([...system, { role: "user", content: prompt }], options);
  }
  return model.generate(prompt, {
    ...options,
    ...(flags.parseSpecial ? { parseSpecial: true } : {}),
    ...(flags.bos === false ? { addBos: false } : {}),
  });
}

async function stream(answer: Generation): Promise<void> {
  let endsLine = true;
  try {
    for await (const piece of answer) {
      process.stdout.write(piece);
      endsLine = piece.endsWith("\n");
    }
  } finally {
    if (!endsLine) process.stdout.write("\n");
  }
  if (process.stderr.isTTY) note(`\n${speedLine(await answer.result)}`);
}

async function printWhole(answer: Generation): Promise<void> {
  let text = "";
  try {
    for await (const piece of answer) text += piece;
  } catch (error) {
    if (error instanceof InterruptedError) printJson({ text, finishReason: "interrupted" });
    throw error;
  }
  printJson(answerJson(await answer.result));
}

/** The fields that other programs rely on, in their order. */
export function answerJson({ text, ids, promptTokens, finishReason, timings, speculation }: GenerationResult): GenerationResult {
  return { text, ids, promptTokens, finishReason, timings, ...(speculation ? { speculation } : {}) };
}

/** `23 tokens at 54.1 per second, after a prompt of 12 (first token 85 ms)` */
export function speedLine({ ids, promptTokens, timings, speculation }: GenerationResult): string {
  const guesses = speculation ? `, ${grouped(speculation.accepted)} of ${grouped(speculation.proposed)} guesses right` : "";
  const reused = timings.reusedTokens > 0 ? `, ${grouped(timings.reusedTokens)} of them still in the cache` : "";
  return `${grouped(ids.length)} tokens at ${timings.tokensPerSecond.toFixed(1)} per second${guesses}, prompt of ${grouped(promptTokens)}${reused} (first token after ${seconds(timings.firstTokenMs)})`;
}
