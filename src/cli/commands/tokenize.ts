// exllama tokenize: text to token ids, and back. No weights are read.

import { type Command, Option } from "commander";
import { UsageError } from "../../errors.js";
import { loadTokenizer } from "../../index.js";
import { tokenIds } from "../flag-values.js";
import { readTextFile } from "../input-files.js";
import { modelFolder, modelOption } from "../load-options.js";
import { grouped, note, printJson } from "../output.js";
import { addSettableOptions, applySettings } from "../settings.js";

interface Flags {
  model?: string;
  text?: string;
  file?: string;
  ids?: number[];
  bos?: boolean;
  parseSpecial?: boolean;
  json?: boolean;
}

const EXAMPLES = `
Examples:
  exllama tokenize --text "Hello there"
  exllama tokenize --text "<|user|>" --parse-special --json
  exllama tokenize --ids 1,318,791`;

export function addTokenize(program: Command): void {
  const command = program.command("tokenize").description("text to token ids, and back").addHelpText("after", EXAMPLES);
  addSettableOptions(command, [modelOption()]);
  command
    .addOption(new Option("-t, --text <text>", "the text").conflicts(["file", "ids"]))
    .addOption(new Option("--file <file>", "the text from a file; - is standard input").conflicts("ids"))
    .addOption(new Option("--ids <ids>", "the other way: ids to text").argParser(tokenIds))
    .option("--bos", "begin with the BOS token")
    .option("--parse-special", "spellings such as <|end|> become special tokens")
    .option("--json", 'print {"ids": […]}, or {"text": …} for --ids')
    .action(async () => {
      applySettings(command);
      await tokenize(command.opts<Flags>());
    });
}

async function tokenize(flags: Flags): Promise<void> {
  const text = flags.text ?? (flags.file === undefined ? undefined : readTextFile(flags.file));
  if (text === undefined && !flags.ids)
    throw new UsageError("there is nothing to tokenize", { expected: "one of --text, --file and --ids" });
  if (flags.ids && (flags.bos || flags.parseSpecial)) throw new UsageError("--bos and --parse-special do not go with --ids");
  const tokenizer = await loadTokenizer(modelFolder(flags));
  if (text === undefined) {
    const decoded = tokenizer.decode(flags.ids!, { skipSpecial: false });
    if (flags.json) printJson({ text: decoded });
    else process.stdout.write(`${decoded}\n`);
    return;
  }
  const ids = tokenizer.encode(text, { addBos: flags.bos ?? false, parseSpecial: flags.parseSpecial ?? false });
  if (flags.json) {
    printJson({ ids });
    return;
  }
  const width = String(tokenizer.vocabSize).length;
  for (const id of ids) process.stdout.write(`${String(id).padStart(width)}  ${tokenizer.spelling(id) ?? ""}\n`);
  note(`${grouped(ids.length)} tokens for ${grouped([...text].length)} characters`);
}
