// exllama serve: one model as a service.

import { basename, resolve } from "node:path";
import { type Command, InvalidArgumentError, Option } from "commander";
import { SYNTHETIC_MODELS, syntheticAddress } from "../../checkpoint/synthetic.js";
import { planningPart } from "../../engine/options.js";
import { UsageError } from "../../errors.js";
import { demoModel, type LoadOptions, loadModel, plan } from "../../index.js";
import { parseSize } from "../../memory/size.js";
import { collected, count, wholeNumber } from "../flag-values.js";
import { readTextFile } from "../input-files.js";
import { interruptible } from "../interrupt.js";
import { addAnsweringOptions, type LoadFlags, loadOptionsOf, modelFolder, openModel, remarksOf } from "../load-options.js";
import { printJson } from "../output.js";
import { addSettableOptions, applySettings } from "../settings.js";

interface Flags extends LoadFlags {
  host: string;
  port: number;
  apiKey?: string[];
  apiKeyFile?: string;
  adminKey?: string[];
  insecure?: boolean;
  cors?: string[];
  modelName?: string[];
  maxWaiting: number;
  onPressure: "wait" | "preempt" | "refuse";
  maxConnections: number;
  maxBody: string;
  requestTimeout: number;
  grace: number;
  sessions?: string;
  page: boolean;
  logLevel: string;
  synthetic?: string;
  bits?: number;
  group?: number;
  json?: boolean;
}

const DEFAULT_HOST = "127.0.0.1";
/** Free on most computers; 5000 is taken by the system on some. */
const DEFAULT_PORT = 5005;
/** Sequences that run at once where nobody says. */
const DEFAULT_SEQUENCES = 16;
/** The KV pool, where nobody says, holds so many contexts at most: enough for many short answers. */
const DEFAULT_POOL_CONTEXTS = 4;

const EXAMPLES = `
Examples:
  exllama serve                                        the small model that comes with the package
  exllama serve ./llama-7b --ctx 4096 --max-sequences 32
  exllama serve ./llama-7b --host 0.0.0.0 --api-key-file keys.txt
  curl http://127.0.0.1:${DEFAULT_PORT}/v1/chat/completions -H 'Content-Type: application/json' \\
    -d '{"messages": [{"role": "user", "content": "Hello"}]}'

Any client of the OpenAI API works with the base address http://127.0.0.1:${DEFAULT_PORT}/v1: chat completions,
completions, embeddings, responses, models; beside them /tokenize, /detokenize, /health, /metrics
and /plan, and the web page at /.

Unless said otherwise ${DEFAULT_SEQUENCES} answers run at once (--max-sequences), and their KV pool holds
${DEFAULT_POOL_CONTEXTS} contexts (--cache-tokens), less where that does not fit; what waits is answered later.

Without keys the server answers this computer only, and no page of another site. API keys open the
API. Where there is an admin key, /metrics, /plan and the page's sessions are open to it alone; it
opens everything else, too. Keys given as EXLLAMA_API_KEY or in a file do not show in a list of
processes, as those on the command line do.

The first Ctrl-C (or SIGTERM) takes no more requests and finishes what runs, for --grace seconds at
most; the second leaves at once.`;

export function addServe(program: Command): void {
  const command = program
    .command("serve")
    .description("serve a model: the OpenAI API and a web page")
    .argument("[model]", "folder of the checkpoint, as --model")
    .addHelpText("after", EXAMPLES);
  addSettableOptions(
    command,
    serverOptions().map((option) => option.helpGroup("Server:")),
  );
  command
    .option("--synthetic <model>", `a made-up model of a known shape, no file: ${SYNTHETIC_MODELS.join(", ")}`)
    .option("--bits <n>", "bits of its weights (default: 4)", count)
    .option("--group <n>", "group size of its weights (default: 128)", count)
    .option("--json", "print the address as one JSON line");
  addAnsweringOptions(command);
  command.action(async (model: string | undefined) => {
    applySettings(command);
    await serve(modelOf(command.opts<Flags>(), model));
  });
}

const serverOptions = (): Option[] => [
  new Option("--host <address>", "address to listen on").default(DEFAULT_HOST),
  new Option("--port <n>", "port to listen on; 0 = any that is free").argParser(port).default(DEFAULT_PORT),
  new Option("--api-key <key>", "a key that opens the API; may be repeated").argParser(collected),
  new Option("--api-key-file <file>", "keys that open the API, one a line; # begins a remark"),
  new Option("--admin-key <key>", "a key that opens everything; may be repeated").argParser(collected),
  new Option("--insecure", "listen on other addresses without a key"),
  new Option("--cors <origin>", "pages of this origin may use the server, * = all; may be repeated").argParser(collected),
  new Option("--model-name <name>", "a further name for the model; may be repeated").argParser(collected),
  new Option("--max-waiting <n>", "answers that may wait for their turn; more are refused with 429")
    .argParser(wholeNumber)
    .default(512),
  new Option("--on-pressure <way>", "where memory is short: an answer waits, preempts the youngest one, or is refused")
    .choices(["wait", "preempt", "refuse"])
    .default("preempt"),
  new Option("--request-timeout <seconds>", "longest that an answer may take; 0 = no limit").argParser(wholeNumber).default(600),
  new Option("--max-body <size>", "most of a request's body").default("4MiB"),
  new Option("--max-connections <n>", "connections at once").argParser(count).default(16_384),
  new Option("--grace <seconds>", "time for running answers when the server ends").argParser(wholeNumber).default(10),
  new Option("--sessions <folder>", "where the web page keeps its sessions"),
  new Option("--no-page", "the API alone, no web page"),
  new Option("--log-level <level>", "lines of the log, on standard error")
    .choices(["debug", "info", "warn", "error", "silent"])
    .default("info"),
];

function port(text: string): number {
  const value = wholeNumber(text);
  if (value < 0 || value > 65_535) throw new InvalidArgumentError("Ports are 0 to 65535.");
  return value;
}

/** The one model that the command line names. */
function modelOf(flags: Flags, positional: string | undefined): Flags {
  const { synthetic, bits, group } = flags;
  const named = [positional, flags.model, synthetic].filter((name) => name !== undefined);
  if (named.length > 1)
    throw new UsageError("the model is named more than once", { hint: "Use one of MODEL, --model and --synthetic." });
  if (synthetic !== undefined) return { ...flags, model: syntheticAddress(synthetic, bits, group) };
  if (bits !== undefined || group !== undefined)
    throw new UsageError("--bits and --group describe a synthetic model", { hint: "Say which: --synthetic llama-7b." });
  return positional === undefined ? flags : { ...flags, model: positional };
}

async function serve(flags: Flags): Promise<void> {
  const keys = keysOf(flags);
  // Loaded when it is needed: other commands start without the server's libraries.
  const { isLoopback, startServer } = await import("../../server/start.js");
  if (keys.api.length === 0 && !flags.insecure && !isLoopback(flags.host))
    throw new UsageError(`without an API key the server does not listen on ${flags.host}: whoever reaches it could use it`, {
      hint: "Give --api-key-file or EXLLAMA_API_KEY, or say --insecure if that is what you want.",
    });
  const { openLog } = await import("../../server/log.js");
  const { sessionsFolder } = await import("../../server/sessions/folder.js");
  const folder = modelFolder(flags);
  const log = openLog(flags.logLevel);
  await interruptible(async (signal) => {
    const options = { ...(await withPool(folder, loadOptionsOf(flags), signal)), onPressure: flags.onPressure };
    const model = await openModel({ ...flags, model: folder }, signal, options);
    remarksOf(model);
    const server = await startServer(model, {
      host: flags.host,
      port: flags.port,
      keys,
      corsOrigins: flags.cors ?? [],
      names: [nameOf(folder), ...(flags.modelName ?? [])],
      maxWaiting: flags.maxWaiting,
      requestTimeoutMs: flags.requestTimeout === 0 ? null : flags.requestTimeout * 1000,
      maxBody: parseSize(/^\d+$/.test(flags.maxBody) ? `${flags.maxBody}B` : flags.maxBody),
      maxConnections: flags.maxConnections,
      sessions: flags.page ? (flags.sessions ?? sessionsFolder()) : null,
      command: commandOf(folder, flags),
      log,
      reload: (stop) => loadModel(folder, { ...options, signal: stop }),
    });
    if (flags.json) printJson({ url: server.url, model: nameOf(folder) });
    else process.stdout.write(`serving ${nameOf(folder)} on ${server.url}\n`);
    await aborted(signal);
    log.info("shutting down");
    await server.close(flags.grace * 1000);
    log.flush();
  });
}

function keysOf({ apiKey = [], apiKeyFile, adminKey = [] }: Flags) {
  const fromFile = apiKeyFile === undefined ? [] : readKeys(apiKeyFile);
  const keys = { api: [...apiKey, ...fromFile], admin: adminKey };
  for (const key of [...keys.api, ...keys.admin])
    if (!/^[\x21-\x7e]{8,}$/.test(key))
      throw new UsageError("a key is too short or has characters that no header can carry", {
        expected: "at least 8 printable ASCII characters without spaces",
      });
  return keys;
}

function readKeys(file: string): string[] {
  const lines = readTextFile(file).split("\n");
  const keys = lines.map((line) => line.replace(/^\s*#.*$/, "").trim()).filter((line) => line !== "");
  // A file without a key must not open the server to everybody.
  if (keys.length === 0) throw new UsageError(`${file} has no key`, { expected: "one key a line" });
  return keys;
}

/** What serves this model again, up to what its plan depends on. */
function commandOf(folder: string, { host, port }: Flags): string {
  const model = folder === demoModel ? [] : ["--model", folder];
  const address = [
    ...(host === DEFAULT_HOST ? [] : ["--host", host]),
    ...(port === DEFAULT_PORT ? [] : ["--port", String(port)]),
  ];
  return ["exllama", "serve", ...model, ...address].join(" ");
}

/** `synthetic:7b:4:128` and folders by their own names. */
function nameOf(folder: string): string {
  return folder === demoModel ? "demo" : basename(resolve(folder));
}

/** Where nobody says how many sequences run and what their KV pool holds: enough for several at once. */
async function withPool(folder: string, given: LoadOptions, signal: AbortSignal): Promise<LoadOptions> {
  const options = { maxSequences: DEFAULT_SEQUENCES, ...given };
  if (given.cacheTokens !== undefined) return options;
  const { context, largestContext, run } = await plan(folder, { ...planningPart(options), signal });
  const fits = run.cacheType in largestContext ? largestContext[run.cacheType as "f16"] : context;
  const wanted = Math.min(DEFAULT_POOL_CONTEXTS, options.maxSequences) * context;
  return { ...options, ctx: context, cacheTokens: Math.max(context, Math.min(wanted, fits)) };
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener("abort", () => resolve(), { once: true });
  });
}
