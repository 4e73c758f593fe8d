// exllama bench: speed of prompts and of decoding, as ExLlama's benchmark measures them: one
// prompt that leaves room for 128 tokens, 128 greedy tokens behind it ("worst": the context
// is full), and 128 after four tokens ("best").

import type { Command } from "commander";
import { SYNTHETIC_MODELS, syntheticAddress } from "../../checkpoint/synthetic.js";
import { profileDecode } from "../../engine/profile.js";
import { UsageError } from "../../errors.js";
import type { GenerationResult, Model } from "../../index.js";
import { formatBytes } from "../../memory/size.js";
import { type AdapterFlags, adapterChoicesOf, useAdapterOption } from "../adapter-options.js";
import { profileJson, profileLines } from "../bench/profile-report.js";
import { count, wholeNumbers } from "../flag-values.js";
import { interruptible } from "../interrupt.js";
import { addAnsweringOptions, type LoadFlags, loadOptionsOf, modelFolder, withModel } from "../load-options.js";
import { grouped, note, printJson, printTable, seconds } from "../output.js";
import { applySettings } from "../settings.js";

interface Flags extends LoadFlags, AdapterFlags {
  prompt?: number;
  tokens: number;
  warmups: number;
  synthetic?: string;
  bits?: number;
  group?: number;
  json?: boolean;
  profile?: boolean;
  depth?: number[];
  batch?: number[];
}

const SHORT_PROMPT = 4;

const EXAMPLES = `
Examples:
  exllama bench
  exllama bench --model ./llama-7b --ctx 2048 --threads 8 --json
  exllama bench --synthetic llama-7b --bits 4 --group 128 --ctx 2048
  exllama bench --profile --model ./llama-7b --ctx 2048 --depth 0,1920`;

export function addBench(program: Command): void {
  const command = program
    .command("bench")
    .description("measure the speed of prompts and decoding")
    .addHelpText("after", EXAMPLES);
  command
    .option("--prompt <n>", "tokens of the long prompt (default: the context less --tokens)", count)
    .option("-n, --tokens <n>", "tokens to decode", count, 128)
    .option("--warmups <n>", "prompts to run before measuring", count, 2)
    .option("--synthetic <model>", `a made-up model of a known shape, no file: ${SYNTHETIC_MODELS.join(", ")}`)
    .option("--bits <n>", "bits of its weights (default: 4)", count)
    .option("--group <n>", "group size of its weights (default: 128)", count)
    .option("--profile", "GPUs: where the time of a decode step goes, kernel by kernel, instead of the speeds")
    .option("--depth <list>", "tokens that the sequences of a profiled step hold (default: 0)", wholeNumbers)
    .option("--batch <list>", "sequences of a profiled step (default: 1)", wholeNumbers)
    .option("--json", "print one JSON line");
  addAnsweringOptions(command.addOption(useAdapterOption()));
  command.action(async () => {
    applySettings(command);
    await bench(command.opts<Flags>());
  });
}

async function bench(flags: Flags): Promise<void> {
  const begun = performance.now();
  if (flags.synthetic !== undefined) {
    if (flags.model !== undefined)
      throw new UsageError("--synthetic and --model name two models", { hint: "Leave one of them out." });
    flags.model = syntheticAddress(flags.synthetic, flags.bits, flags.group);
  } else if (flags.bits !== undefined || flags.group !== undefined)
    throw new UsageError("--bits and --group describe a synthetic model", { hint: "Say which: --synthetic llama-7b." });
  if (flags.profile) return profile(flags);
  if (flags.depth !== undefined || flags.batch !== undefined)
    throw new UsageError("--depth and --batch describe a profiled step", { hint: "Add --profile." });
  await interruptible((signal) =>
    withModel(flags, signal, (model) => measure(model, flags, { loadMs: performance.now() - begun, signal })),
  );
}

async function profile(flags: Flags): Promise<void> {
  const { depth = [0], batch = [1] } = flags;
  const requests = batch.flatMap((rows) => depth.map((tokens) => ({ rows, depth: tokens })));
  const maxSequences = flags.maxSequences ?? Math.max(...batch);
  const profiles = await interruptible((signal) =>
    profileDecode(modelFolder(flags), { ...loadOptionsOf(flags), maxSequences, signal }, requests),
  );
  if (flags.json) printJson({ model: flags.model, profiles: profiles.map(profileJson) });
  else for (const each of profiles) console.log([...profileLines(each), ""].join("\n"));
}

async function measure(model: Model, flags: Flags, { loadMs, signal }: { loadMs: number; signal: AbortSignal }): Promise<void> {
  const { context } = model.plan;
  const promptTokens = flags.prompt ?? context - flags.tokens;
  if (promptTokens < 1 || promptTokens + flags.tokens > context || SHORT_PROMPT + flags.tokens > context)
    throw new UsageError(
      `a prompt of ${promptTokens} and ${flags.tokens} tokens behind it do not fit the context of ${context}`,
      {
        hint: "Use a larger --ctx, or smaller --prompt and --tokens.",
      },
    );
  let round = 0;
  const run = (length: number, maxTokens: number): Promise<GenerationResult> =>
    model.generate(benchPrompt(length, round++, model.info.vocabSize), {
      maxTokens,
      temperature: 0,
      ignoreEos: true,
      signal,
      ...adapterChoicesOf(flags),
    }).result;

  for (let i = 0; i < flags.warmups; i++) {
    if (process.stderr.isTTY) note(`warm-up ${i + 1} of ${flags.warmups}`);
    await run(Math.min(promptTokens, 256), 8);
  }
  const long = await run(promptTokens, flags.tokens);
  const short = await run(SHORT_PROMPT, flags.tokens);
  report(model, flags, { loadMs, long, short });
}

/** Ids without meaning, other ones each time, so that no round finds its prompt in the cache. */
function benchPrompt(length: number, round: number, vocabSize: number): number[] {
  return Array.from({ length }, (_, index) => ((index + 1) * 7919 + (round + 1) * 104_729) % vocabSize);
}

function report(
  model: Model,
  flags: Flags,
  { loadMs, long, short }: { loadMs: number; long: GenerationResult; short: GenerationResult },
): void {
  const memory = model.plan.devices.reduce((sum, device) => sum + device.total, 0);
  const scratch = model.plan.devices.reduce((sum, device) => sum + device.scratch, 0);
  const decode = ({ ids, promptTokens, timings }: GenerationResult) => ({
    afterTokens: promptTokens,
    tokens: ids.length,
    tokensPerSecond: timings.tokensPerSecond,
  });
  if (flags.json) {
    printJson({
      model: model.info.source,
      backend: model.info.backend,
      context: model.plan.context,
      loadMs,
      memoryBytes: memory,
      prefillChunk: model.plan.run.prefillChunk,
      scratchBytes: scratch,
      prompt: { tokens: long.promptTokens, tokensPerSecond: long.timings.promptTokensPerSecond },
      decodeWorst: decode(long),
      decodeBest: decode(short),
    });
    return;
  }
  const perSecond = (value: number): string => `${value.toFixed(1)} tokens per second`;
  printTable([
    ["model", `${model.info.source} (${model.info.architecture}, ${model.info.quantization}, ${model.info.backend})`],
    ["load", seconds(loadMs)],
    [
      "memory",
      `${formatBytes(memory)} planned (${formatBytes(scratch)} scratch for prompts ${grouped(model.plan.run.prefillChunk)} at a time), context ${grouped(model.plan.context)}`,
    ],
    ["prompt", `${perSecond(long.timings.promptTokensPerSecond)}, ${grouped(long.promptTokens)} tokens`],
    ["decode, worst", `${perSecond(long.timings.tokensPerSecond)}, after ${grouped(long.promptTokens)} tokens`],
    ["decode, best", `${perSecond(short.timings.tokensPerSecond)}, after ${grouped(short.promptTokens)} tokens`],
  ]);
}
