// exllama logits: what the model thinks at the last positions of a prompt.

import { type Command, Option } from "commander";
import { UsageError } from "../../errors.js";
import type { Model } from "../../index.js";
import { type AdapterFlags, adapterChoicesOf, useAdapterOption } from "../adapter-options.js";
import { count, tokenIds } from "../flag-values.js";
import { interruptible } from "../interrupt.js";
import { addLoadOptions, type LoadFlags, withModel } from "../load-options.js";
import { applySettings } from "../settings.js";

interface Flags extends LoadFlags, AdapterFlags {
  prompt?: string;
  promptIds?: number[];
  last: number;
  top: number;
  json?: boolean;
}

const EXAMPLES = `
Examples:
  exllama logits --prompt "The sky is"
  exllama logits --prompt-ids 1,318,791 --last 2 --json`;

export function addLogits(program: Command): void {
  const command = program
    .command("logits")
    .description("logits at the last positions of a prompt")
    .addHelpText("after", EXAMPLES);
  command
    .addOption(new Option("-p, --prompt <text>", "the prompt; begins with BOS").conflicts("promptIds"))
    .addOption(new Option("--prompt-ids <ids>", "the prompt as token ids; nothing is added to them").argParser(tokenIds))
    .option("--last <n>", "positions, counted from the end", count, 1)
    .option("--top <n>", "without --json: so many of the likeliest tokens", count, 10)
    .option("--json", 'print {"logits": [[…] …]}: f32, one row per position, before any sampling');
  addLoadOptions(command.addOption(useAdapterOption()));
  command.action(async () => {
    applySettings(command);
    await logits(command.opts<Flags>());
  });
}

async function logits(flags: Flags): Promise<void> {
  if (flags.prompt === undefined && !flags.promptIds)
    throw new UsageError("there is no prompt", { expected: "one of --prompt and --prompt-ids" });
  await interruptible((signal) =>
    withModel(flags, signal, async (model) => {
      const ids = flags.promptIds ?? (await model.tokenize(flags.prompt!, { addBos: true }));
      const rows = await model.logits(ids, { last: flags.last, signal, ...adapterChoicesOf(flags) });
      if (flags.json) printRows(rows);
      else await printLikeliest(model, rows, { top: flags.top, first: ids.length - rows.length });
    }),
  );
}

/** Row by row: all of them as one text may be larger than a string can be. */
function printRows(rows: readonly Float32Array[]): void {
  for (const [index, row] of rows.entries())
    process.stdout.write(`${index === 0 ? '{"logits":[' : ","}${JSON.stringify(Array.from(row))}`);
  process.stdout.write("]}\n");
}

async function printLikeliest(
  model: Model,
  rows: readonly Float32Array[],
  { top, first }: { top: number; first: number },
): Promise<void> {
  for (const [index, row] of rows.entries()) {
    const highest = row.reduce((most, value) => Math.max(most, value), Number.NEGATIVE_INFINITY);
    const logSum = highest + Math.log(row.reduce((sum, value) => sum + Math.exp(value - highest), 0));
    const best = Array.from(row.keys()).sort((a, b) => row[b]! - row[a]! || a - b);
    process.stdout.write(`after token ${first + index + 1}:\n`);
    for (const id of best.slice(0, top)) {
      const share = `${(Math.exp(row[id]! - logSum) * 100).toFixed(2)} %`;
      const text = JSON.stringify(await model.detokenize([id]));
      process.stdout.write(`  ${share.padStart(9)}  ${row[id]!.toFixed(4).padStart(9)}  ${String(id).padStart(6)}  ${text}\n`);
    }
  }
}
