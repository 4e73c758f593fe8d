// exllama plan: what a model would take, where, before a weight is read; for this computer or
// for cards that are only described.

import { type Command, Option } from "commander";
import { type PlanRefusal, PlanRefusedError, plan } from "../../index.js";
import { explainPlan, explainRefusal } from "../../memory/explain.js";
import { planToJson, refusalToJson } from "../../memory/plan-json.js";
import { FAILURE_EXIT } from "../failure.js";
import { interruptible } from "../interrupt.js";
import { draftOption, type LoadFlags, loadOptionsOf, modelFolder, planOptions } from "../load-options.js";
import { printJson } from "../output.js";
import { addSettableOptions, applySettings } from "../settings.js";
import { isColored } from "../style.js";

interface Flags extends LoadFlags {
  json?: boolean;
}

const EXAMPLES = `
Devices are this computer's, or described ones, [id=]SIZE[:USED]: 24GiB,24GiB or cuda:1=24GiB:2GiB.
A split is the most that this process may take on each device, everything included: the driver's
context, weights, KV cache and scratch. Exit code 1: refused, with what is missing and what would do.

Examples:
  exllama plan --model ./llama-13b --devices 24GiB,24GiB --gpu-split 5,4.5
  exllama plan --model hf:TheBloke/Llama-2-70B-GPTQ --devices 24GiB,24GiB --ctx max --cache q8
  exllama plan --model ./llama-7b --cpu-memory 8GiB --json`;

export function addPlan(program: Command): void {
  const command = program
    .command("plan")
    .description("what a model would take in memory, without loading it")
    .addHelpText("after", EXAMPLES);
  const model = new Option(
    "-m, --model <model>",
    "folder, hf:owner/name, or address of the checkpoint (default: the demo model)",
  );
  addSettableOptions(command, [model, ...planOptions(), draftOption()]);
  command.option("--json", "print one JSON line, sizes in bytes").action(async () => {
    applySettings(command);
    await run(command.opts<Flags>());
  });
}

async function run(flags: Flags): Promise<void> {
  const path = modelFolder(flags);
  try {
    const made = await interruptible((signal) => plan(path, { ...loadOptionsOf(flags), signal }));
    if (flags.json) printJson(planToJson(made));
    else process.stdout.write(`${explainPlan(made, { title: path, ...displayOn(process.stdout) })}\n`);
  } catch (error) {
    if (!(error instanceof PlanRefusedError)) throw error;
    tellRefusal(error.refusal, path, flags.json ?? false);
    process.exitCode = FAILURE_EXIT;
  }
}

function tellRefusal(refusal: PlanRefusal, title: string, json: boolean): void {
  if (json) printJson(refusalToJson(refusal));
  else process.stderr.write(`${explainRefusal(refusal, { title, ...displayOn(process.stderr) })}\n`);
}

/** Width and colours of a terminal; 100 columns where there is none. */
function displayOn(stream: NodeJS.WriteStream): { width: number; color: boolean } {
  return { width: Math.max(60, stream.columns ?? 100), color: isColored(stream) };
}
