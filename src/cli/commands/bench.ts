// exllama bench: speed of prompts and of decoding, in rows as llama-bench has them: a prompt of so
// many tokens (pp), and so many tokens behind a prompt of some depth (tg), for one sequence or for
// several at once.

import type { Command } from "commander";
import { SYNTHETIC_MODELS, syntheticAddress } from "../../checkpoint/synthetic.js";
import { type CardMeters, openCardMeters } from "../../engine/card-meters.js";
import { listDevices } from "../../engine/devices.js";
import { profileDecode } from "../../engine/profile.js";
import { ExllamaError, UsageError } from "../../errors.js";
import type { LoadOptions, Model } from "../../index.js";
import { PAGE_TOKENS } from "../../memory/plan.js";
import { type AdapterFlags, adapterChoicesOf, useAdapterOption } from "../adapter-options.js";
import { type MeasuredRow, RowRunner } from "../bench/measure.js";
import { profileJson, profileLines } from "../bench/profile-report.js";
import { type BenchResult, benchJson, benchLines } from "../bench/report.js";
import { type BenchRow, checkFit, needsOf, rowsOf } from "../bench/rows.js";
import { count, wholeNumbers, zeroOrMore } from "../flag-values.js";
import { interruptible } from "../interrupt.js";
import { addAnsweringOptions, type LoadFlags, loadOptionsOf, modelFolder, withModel } from "../load-options.js";
import { note, printJson } from "../output.js";
import { applySettings } from "../settings.js";

interface Flags extends LoadFlags, AdapterFlags {
  prompt?: number[];
  tokens?: number;
  depth?: number[];
  batch?: number[];
  repeat?: number;
  warmups?: number;
  synthetic?: string;
  bits?: number;
  group?: number;
  json?: boolean;
  profile?: boolean;
}

/** As llama-bench has them. */
const DEFAULT = { prompt: 512, tokens: 128, repeat: 5, warmups: 1 } as const;

const EXAMPLES = `
Rows:
  pp 512             a prompt of 512 tokens
  tg 128 @ 1920      128 tokens behind a prompt of 1,920; the first comes with the prompt and is not timed
  tg 128 @ 0 × 8     8 sequences at once; tokens per second of all together

GB/s is what decode steps read by the plan (weights, and the keys and values held) in the median
run; its share is of a kernel that only reads, timed in the same run. J/token is the cards' own count.

Examples:
  exllama bench
  exllama bench --model ./llama-7b --prompt 512,1920 --depth 0,1920 --json
  exllama bench --synthetic llama-7b --prompt 0 --depth 240 --tokens 32 --batch 1,8,32
  exllama bench --profile --model ./llama-7b --ctx 2048 --depth 0,1920
  exllama bench --profile --model ./llama-7b --prompt 1920`;

export function addBench(program: Command): void {
  const command = program
    .command("bench")
    .description("measure the speed of prompts and decoding")
    .addHelpText("after", EXAMPLES);
  command
    .option("--prompt <list>", `tokens of prompts, such as 512,1920; 0: none (default: ${DEFAULT.prompt})`, wholeNumbers)
    .option("-n, --tokens <n>", `tokens of each decoding sequence; 0: none (default: ${DEFAULT.tokens})`, zeroOrMore)
    .option("--depth <list>", "tokens that decoding sequences hold before (default: 0)", wholeNumbers)
    .option("--batch <list>", "sequences that decode at once, such as 1,8,32 (default: 1)", wholeNumbers)
    .option("--repeat <n>", `measured runs of each row (default: ${DEFAULT.repeat})`, count)
    .option("--warmups <n>", `unmeasured runs before each row (default: ${DEFAULT.warmups})`, zeroOrMore)
    .option("--synthetic <model>", `a made-up model of a known shape, no file: ${SYNTHETIC_MODELS.join(", ")}`)
    .option("--bits <n>", "bits of its weights (default: 4)", count)
    .option("--group <n>", "group size of its weights (default: 128)", count)
    .option(
      "--profile",
      "GPUs: where the time of a decode step of each --batch and --depth, or of a step that takes a --prompt, goes, kernel by kernel, instead of the speeds",
    )
    .option("--json", "print one JSON line");
  addAnsweringOptions(command.addOption(useAdapterOption()));
  command.action(async () => {
    applySettings(command);
    await bench(command.opts<Flags>());
  });
}

async function bench(flags: Flags): Promise<void> {
  if (flags.synthetic !== undefined) {
    if (flags.model !== undefined)
      throw new UsageError("--synthetic and --model name two models", { hint: "Leave one of them out." });
    flags.model = syntheticAddress(flags.synthetic, flags.bits, flags.group);
  } else if (flags.bits !== undefined || flags.group !== undefined)
    throw new UsageError("--bits and --group describe a synthetic model", { hint: "Say which: --synthetic llama-7b." });
  await (flags.profile ? profile(flags) : speeds(flags));
}

async function profile(flags: Flags): Promise<void> {
  for (const name of ["tokens", "repeat", "warmups"] as const)
    if (flags[name] !== undefined)
      throw new UsageError(`--${name} says nothing about a profiled step`, { hint: "Leave it out." });
  const { batch = [1] } = flags;
  const prompt = (flags.prompt ?? []).filter((tokens) => tokens > 0); // 0: none, as for speeds
  const depth = flags.depth ?? (prompt.length > 0 ? [] : [0]);
  const requests = [
    ...prompt.map((tokens) => ({ rows: 1, depth: tokens, prompt: true })),
    ...batch.flatMap((rows) => depth.map((tokens) => ({ rows, depth: tokens }))),
  ];
  const profiles = await interruptible((signal) =>
    profileDecode(modelFolder(flags), { ...loadOptionsOf(flags), signal }, requests),
  );
  if (flags.json) printJson({ model: flags.model, profiles: profiles.map(profileJson) });
  else for (const each of profiles) console.log([...profileLines(each), ""].join("\n"));
}

async function speeds(flags: Flags): Promise<void> {
  const { tokens = DEFAULT.tokens, depth = [0], batch = [1], ctx } = flags;
  const prompt = flags.prompt ?? [typeof ctx === "number" ? Math.min(DEFAULT.prompt, ctx - 1) : DEFAULT.prompt];
  const rows = rowsOf({ prompt, tokens, depth, batch });
  const begun = performance.now();
  const result = await interruptible(async (signal) => {
    const measured = await withModel(
      flags,
      signal,
      (model) => measure(model, { flags, rows, signal, loadMs: performance.now() - begun }),
      loadDefaults(flags, rows),
    );
    // The model has been given back: the card is free for what reads alone.
    return { ...measured, readRate: readRateOf(measured.meters) };
  });
  if (flags.json) printJson(benchJson(result));
  else console.log(benchLines(result).join("\n"));
}

/** A card that fails now, when all else has been measured, costs this figure only. */
function readRateOf(meters: CardMeters): number | null {
  try {
    return meters.readRate();
  } catch (error) {
    if (!(error instanceof ExllamaError)) throw error;
    note(`reading alone was not measured: ${error.message}`);
    return null;
  }
}

/** What the rows need, where no flag says otherwise. */
function loadDefaults(flags: Flags, rows: readonly BenchRow[]): LoadOptions {
  const onGpu = flags.backend !== "cpu" && listDevices().problem === null;
  // Said outright: rows are sized for it, and a chunk that gave way to memory would be another benchmark.
  const prefillChunk = flags.prefillChunk ?? (onGpu ? 2048 : 256);
  const needs = needsOf(rows, prefillChunk);
  const context = Math.ceil(needs.context / PAGE_TOKENS) * PAGE_TOKENS;
  const least = typeof flags.ctx === "number" ? flags.ctx : context;
  return {
    ctx: context,
    prefillChunk,
    maxSequences: needs.maxSequences,
    ...(needs.maxSequences > 1 ? { cacheTokens: Math.max(needs.cacheTokens, least) } : {}),
  };
}

interface Measuring {
  readonly flags: Flags;
  readonly rows: readonly BenchRow[];
  readonly signal: AbortSignal;
  readonly loadMs: number;
}

async function measure(model: Model, { flags, rows, signal, loadMs }: Measuring) {
  checkFit(rows, model.plan.run);
  const meters = openCardMeters(model.plan);
  const runner = new RowRunner(model, meters, {
    repeat: flags.repeat ?? DEFAULT.repeat,
    warmups: flags.warmups ?? DEFAULT.warmups,
    guessing: Boolean(flags.draft ?? flags.speculate),
    adapters: adapterChoicesOf(flags),
    signal,
    onRun: (name, run) => {
      if (process.stderr.isTTY) note(run < 0 ? `${name}: warm-up` : `${name}: run ${run + 1}`);
    },
  });
  const measured: MeasuredRow[] = [];
  for (const row of rows) measured.push(await runner.measure(row));
  const { devices } = await model.status();
  const result: Omit<BenchResult, "readRate"> = {
    model: { info: model.info, plan: model.plan },
    meters,
    loadMs,
    devices,
    rows: measured,
  };
  return { ...result, meters };
}
