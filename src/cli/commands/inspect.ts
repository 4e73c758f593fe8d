// exllama inspect: what a checkpoint is, from its headers and small files; no weights are read.

import type { Command } from "commander";
import { inspectModel, type ModelInspection } from "../../engine/inspect.js";
import { UsageError } from "../../errors.js";
import { formatBytes } from "../../memory/size.js";
import { interruptible } from "../interrupt.js";
import { modelFolder, modelOption } from "../load-options.js";
import { grouped, printJson, printTable } from "../output.js";
import { addSettableOptions, applySettings } from "../settings.js";

interface Flags {
  model?: string;
  tensors?: boolean;
  json?: boolean;
}

const EXAMPLES = `
Examples:
  exllama inspect ./llama-7b
  exllama inspect hf:TheBloke/Llama-2-7B-GPTQ --tensors`;

export function addInspect(program: Command): void {
  const command = program
    .command("inspect")
    .description("what a checkpoint is")
    .argument("[model]", "as --model")
    .addHelpText("after", EXAMPLES);
  addSettableOptions(command, [modelOption()]);
  command
    .option("--tensors", "list every tensor")
    .option("--json", "print one JSON line")
    .action(async (argument: string | undefined) => {
      if (argument !== undefined && command.opts<Flags>().model !== undefined) throw new UsageError("the model is named twice");
      applySettings(command);
      const flags = command.opts<Flags>();
      const path = argument ?? modelFolder(flags);
      const inspection = await interruptible((signal) => inspectModel(path, { signal }));
      if (flags.json) printJson(flags.tensors ? inspection : { ...inspection, tensors: undefined });
      else print(inspection, flags.tensors ?? false);
    });
}

function print(model: ModelInspection, tensors: boolean): void {
  const { attention } = model;
  printTable([
    ["model", model.source],
    ["architecture", `${model.architecture}, ${grouped(model.layers)} layers, hidden ${grouped(model.hiddenSize)}`],
    ["parameters", grouped(model.parameters)],
    ["quantisation", model.quantization],
    [
      "attention",
      `${attention.heads} heads, ${attention.kvHeads} for keys and values, ${attention.headDim} wide${attention.window ? `, window ${grouped(attention.window)}` : ""}`,
    ],
    ["context", model.contextLimit === null ? "not said" : grouped(model.contextLimit)],
    ["RoPE", ropeText(model.rope)],
    ["vocabulary", `${grouped(model.vocabSize)}${model.tiedEmbeddings ? ", embeddings shared with the head" : ""}`],
    ["BOS, EOS", `${model.bosId ?? "none"}, ${model.eosIds.join(" ") || "none"}`],
    ["tokenizer", model.tokenizer ?? "none that can be read here"],
    ["chat template", model.hasChatTemplate === null ? "unknown" : model.hasChatTemplate ? "yes" : "no"],
    ["size", `${formatBytes(model.checkpointBytes)} in ${grouped(model.tensorCount)} tensors, ${model.files.join(", ")}`],
    ...(model.planOnly ? ([["note", model.planOnly]] as const) : []),
  ]);
  if (!tensors) return;
  process.stdout.write("\n");
  for (const { name, dtype, shape, bytes } of model.tensors)
    process.stdout.write(
      `${dtype.padEnd(5)} ${`[${shape.join(", ")}]`.padEnd(16)} ${formatBytes(bytes).padStart(10)}  ${name}\n`,
    );
}

function ropeText({ kind, theta, ...more }: ModelInspection["rope"]): string {
  const rest = Object.entries(more).map(([name, value]) => `${name} ${String(value)}`);
  return [kind === "default" ? `base ${grouped(theta)}` : `${kind}, base ${grouped(theta)}`, ...rest].join(", ");
}
