// exllama perplexity: how well a model predicts a text.

import type { Command } from "commander";
import { UsageError } from "../../errors.js";
import { loadTokenizer, type Model, type ScoreOptions } from "../../index.js";
import { type AdapterFlags, adapterChoicesOf, useAdapterOption } from "../adapter-options.js";
import { count } from "../flag-values.js";
import { readIdsFile, readJsonLines, readTextFile } from "../input-files.js";
import { interruptible } from "../interrupt.js";
import { addLoadOptions, type LoadFlags, modelFolder, withModel } from "../load-options.js";
import { grouped, note, printJson, printTable, seconds } from "../output.js";
import { windowsOf } from "../perplexity-windows.js";
import { ProgressBar } from "../progress.js";
import { applySettings } from "../settings.js";

interface Flags extends LoadFlags, AdapterFlags {
  ids?: string;
  text?: string;
  jsonl?: string;
  key: string;
  window: number;
  minimum?: number;
  limit?: number;
  json?: boolean;
}

/** ExLlama's: a last chunk of fewer tokens says little. */
const JSONL_MINIMUM = 50;

const ABOUT = `
A text is cut into windows: window k is ids[k·W … k·W+W] and predicts W ids, each from those
before it in the window. nll is the mean of −log p over all predicted ids, ppl = e^nll.
Texts are tokenized without BOS and without special tokens. A last window that is not full is
left out (of --jsonl, where each line is a text of its own, only below --minimum ${JSONL_MINIMUM}); a single
text shorter than a window counts as one.

Examples:
  exllama perplexity --text book.txt --window 1024
  exllama perplexity --jsonl dataset.jsonl --key text --limit 100 --json
  exllama perplexity --ids ids.json --window 1024 --cpu-exact`;

export function addPerplexity(program: Command): void {
  const command = program.command("perplexity").description("how well the model predicts a text").addHelpText("after", ABOUT);
  command
    .option("--ids <file>", "a JSON array of token ids")
    .option("--text <file>", "a text; - is standard input")
    .option("--jsonl <file>", "one JSON object per line, each with a text")
    .option("--key <name>", "name of the text in each line of --jsonl", "text")
    .option("-w, --window <n>", "ids that each window predicts", count, 2048)
    .option("--minimum <n>", "a shorter last window counts from so many ids", count)
    .option("--limit <n>", "measure at most so many windows", count)
    .option("--json", 'print {"nll", "ppl", "tokens", …}');
  addLoadOptions(command.addOption(useAdapterOption()));
  command.action(async () => {
    applySettings(command);
    await perplexity(command.opts<Flags>());
  });
}

async function perplexity(flags: Flags): Promise<void> {
  const texts = await readTexts(flags);
  const { window, limit } = flags;
  const minimum = flags.minimum ?? (flags.jsonl === undefined ? window : Math.min(JSONL_MINIMUM, window));
  const { windows, dropped } = windowsOf(texts, { window, minimum, ...(limit === undefined ? {} : { limit }) });
  if (windows.length === 0)
    throw new UsageError(`there is nothing to predict: ${grouped(texts.reduce((sum, ids) => sum + ids.length, 0))} tokens`, {
      expected: `a text of at least two tokens${flags.jsonl === undefined ? "" : ` (lines of --jsonl count from ${minimum}, see --minimum)`}`,
    });
  const longest = Math.max(...windows.map((ids) => ids.length - 1));
  const begun = performance.now();
  const measured = await interruptible((signal) =>
    // A window is a sequence of its own: no longer context is needed, and no memory is taken for one.
    withModel(flags, signal, (model) => measure(model, windows, { signal, ...adapterChoicesOf(flags) }), { ctx: longest }),
  );
  report(flags, { ...measured, windows: windows.length, dropped, milliseconds: performance.now() - begun });
}

async function readTexts(flags: Flags): Promise<number[][]> {
  const given = [flags.ids, flags.text, flags.jsonl].filter((value) => value !== undefined);
  if (given.length !== 1)
    throw new UsageError(given.length === 0 ? "there is no text" : "there is more than one text", {
      expected: "one of --ids, --text and --jsonl",
    });
  if (flags.ids !== undefined) return [readIdsFile(flags.ids)];
  const texts = flags.text === undefined ? readJsonLines(flags.jsonl!, flags.key) : [readTextFile(flags.text)];
  const tokenizer = await loadTokenizer(modelFolder(flags));
  return texts.map((text) => tokenizer.encode(text));
}

async function measure(
  model: Model,
  windows: readonly (readonly number[])[],
  options: ScoreOptions,
): Promise<{ nll: number; tokens: number }> {
  const bar = new ProgressBar("measuring");
  let sum = 0;
  let tokens = 0;
  try {
    for (const [index, ids] of windows.entries()) {
      for (const logprob of await model.logprobs(ids, options)) sum -= logprob;
      tokens += ids.length - 1;
      bar.show(index + 1, windows.length, `${index + 1} of ${windows.length}, ppl ${Math.exp(sum / tokens).toFixed(4)}`);
    }
  } finally {
    bar.clear();
  }
  return { nll: sum / tokens, tokens };
}

function report(
  flags: Flags,
  result: { nll: number; tokens: number; windows: number; dropped: number; milliseconds: number },
): void {
  const { nll, tokens, windows, dropped, milliseconds } = result;
  const ppl = Math.exp(nll);
  if (flags.json) {
    printJson({ nll, ppl, tokens, windows, window: flags.window, droppedTokens: dropped, milliseconds });
    return;
  }
  printTable([
    ["perplexity", ppl.toFixed(4)],
    ["nll", nll.toFixed(6)],
    ["tokens", `${grouped(tokens)} in ${grouped(windows)} windows of up to ${grouped(flags.window)}`],
    ["time", `${seconds(milliseconds)}, loading included`],
  ]);
  if (dropped > 0) note(`${grouped(dropped)} tokens in last windows that were too short are left out`);
}
