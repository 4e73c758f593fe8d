// Load on `exllama serve` over loopback, from this process: clients that ask for answers of mixed
// lengths, leave early, disconnect, read slowly.
//
//   npm run bench:serve [-- options] [-- flags of exllama serve]
//
//   --clients 1,8,64       runs, one after the other (default 1,8,32,64)
//   --seconds 20           of each run
//   --prompt-tokens 16,128,512   prompts are of these lengths, in turn by chance
//   --tokens 16,64         answers likewise
//   --cancel 0.1 --disconnect 0.05 --slow 0.05   shares of clients that leave, vanish, read slowly
//   --questions 32         different questions
//   --fresh                no prompt twice: nothing is found in the cache
//   --accept               compare every whole answer with the question asked alone, and see that pages,
//                          memory and event loop are as promised; exit code 1 where they are not
//   --url http://…         a server that runs already, instead of one on the demo model
//   --seed 1 --json
//
// For example, as the project promises it:   npm run bench:serve -- --clients 64 --seconds 120 --accept
// A 7B on a GPU:   npm run bench:serve -- --clients 8 --prompt-tokens 512 --fresh -- --synthetic 7b --max-sequences 32

import { parseArgs } from "node:util";
import { closeConnections, complete } from "./client.js";
import { makeQuestions, runLoad } from "./load.js";
import { describe, summarize } from "./report.js";
import { readMetrics, residentBytes, startServer } from "./server-process.js";

/** What the project promises for `--accept`. */
const MOST_LOOP_DELAY_MS = 20;
/** The last quarter of a run may hold so much more than the second one. */
const MEMORY_GROWTH = { share: 0.1, bytes: 16 * 2 ** 20 };
/** The first ones of a fresh process, to compile and to touch its memory. */
const WARM_UP = 8;

const { values: options, positionals: serverFlags } = parseArgs({
  allowPositionals: true,
  options: {
    clients: { type: "string", default: "1,8,32,64" },
    seconds: { type: "string", default: "20" },
    "prompt-tokens": { type: "string", default: "16,128,512" },
    tokens: { type: "string", default: "16,64" },
    cancel: { type: "string", default: "0.1" },
    disconnect: { type: "string", default: "0.05" },
    slow: { type: "string", default: "0.05" },
    questions: { type: "string", default: "32" },
    fresh: { type: "boolean", default: false },
    accept: { type: "boolean", default: false },
    url: { type: "string" },
    seed: { type: "string", default: "1" },
    json: { type: "boolean", default: false },
  },
});

function numbers(name) {
  const values = options[name].split(",").map((text) => (text.trim() === "" ? Number.NaN : Number(text)));
  if (values.every((value) => value >= 0)) return values;
  console.error(`--${name} ${options[name]}: expected numbers such as 1,8,64`);
  process.exit(2);
}
const number = (name) => numbers(name)[0];

const server = options.url ? { url: options.url, pid: null, stop: async () => 0 } : await startServer(serverFlags);
let failed = false;
try {
  failed = await main();
} finally {
  closeConnections();
  const code = await server.stop();
  if (code !== 0) {
    console.error(`the server ended with ${code}`);
    failed = true;
  }
}
process.exit(failed ? 1 : 0);

async function main() {
  const { url } = server;
  const [model] = (await (await fetch(`${url}/v1/models`)).json()).data;
  const questions = makeQuestions({
    count: number("questions"),
    promptTokens: numbers("prompt-tokens"),
    tokens: numbers("tokens"),
    vocabSize: model.vocab_size,
    seed: number("seed"),
  });
  for (let i = 0; i < WARM_UP; i++) await complete(url, questions[i % questions.length].body);
  const solo = options.accept ? await alone(questions) : null;
  const results = [];
  let problems = [];
  for (const clients of numbers("clients")) {
    const run = await measured(clients, questions);
    if (solo) problems = [...problems, ...judge(run, solo).map((problem) => `${clients} clients: ${problem}`)];
    const { outcomes: _, ...figures } = run;
    results.push({ clients, ...figures });
    if (!options.json) console.log(describe(clients, run));
  }
  if (options.json) console.log(JSON.stringify({ model: model.id, backend: model.backend, serverFlags, results, problems }));
  for (const problem of problems) console.error(`NOT AS PROMISED: ${problem}`);
  if (solo && !options.json && problems.length === 0)
    console.log("as promised: every answer as alone, no errors, all pages back, memory flat, event loop free");
  return problems.length > 0 || results.some(({ errors }) => errors > 0);
}

/** Every question asked while nothing else is. @returns {Promise<string[]>} ids as text, by question */
async function alone(questions) {
  const answers = [];
  for (const { body } of questions) {
    const { ids, error } = await complete(server.url, body);
    if (error !== null) throw new Error(`asked alone: ${error}`);
    answers.push(ids.join());
  }
  return answers;
}

async function measured(clients, questions) {
  const { url, pid } = server;
  await readMetrics(url); // begins the window of event loop delays
  const memory = [];
  const sampling = setInterval(() => memory.push(pid === null ? null : residentBytes(pid)), 1000);
  const { outcomes, seconds } = await runLoad({
    url,
    clients,
    seconds: number("seconds"),
    questions,
    fresh: options.fresh,
    cancels: number("cancel"),
    disconnects: number("disconnect"),
    slow: number("slow"),
    seed: number("seed"),
  });
  clearInterval(sampling);
  const metrics = await settled(url);
  return {
    ...summarize(outcomes, seconds),
    outcomes,
    eventLoopP99Ms: metrics.lag * 1000,
    pagesFree: metrics.free,
    pagesIdle: metrics.idle,
    pagesTotal: metrics.total,
    pagesReserved: metrics.reserved,
    memory: memoryOf(memory.filter((sample) => sample !== null)),
  };
}

/** The server's figures when nothing runs any more; what a client left is freed within a step. */
async function settled(url) {
  let lag = null;
  for (let tries = 0; ; tries++) {
    const metrics = await readMetrics(url);
    // The first reading is of the whole run; it begins a new window.
    lag ??= metrics.get("nodejs_eventloop_lag_p99_seconds");
    const running = metrics.get("exllama_sequences_running") + metrics.get("exllama_sequences_waiting");
    if (running === 0 || tries === 50) {
      const sum = (name) =>
        [...metrics].filter(([key]) => key.startsWith(`exllama_${name}{`)).reduce((total, [, value]) => total + value, 0);
      return {
        lag,
        free: sum("kv_pages_free"),
        idle: sum("kv_pages_idle"),
        total: sum("kv_pages_total"),
        reserved: sum("kv_pages_reserved"),
        running,
      };
    }
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

function memoryOf(samples) {
  if (samples.length < 8) return null;
  const quarter = Math.floor(samples.length / 4);
  const mean = (part, name) => part.reduce((sum, sample) => sum + sample[name], 0) / part.length;
  const of = (name) => ({
    first: mean(samples.slice(quarter, 2 * quarter), name),
    last: mean(samples.slice(-quarter), name),
  });
  return { server: of("server"), engine: of("engine") };
}

/** What is not as promised. */
function judge({ outcomes, errors, eventLoopP99Ms, pagesFree, pagesIdle, pagesReserved, pagesTotal, memory }, solo) {
  const problems = [];
  const wrong = outcomes.filter(
    ({ question, ids, left, error }) =>
      error === null && !(left ? solo[question].startsWith(ids.join()) : solo[question] === ids.join()),
  );
  if (wrong.length > 0) problems.push(`${wrong.length} answers differ from the question asked alone`);
  if (errors > 0) problems.push(`${errors} errors`);
  if (pagesReserved !== 0) problems.push(`${pagesReserved} of ${pagesTotal} pages are still reserved`);
  if (pagesFree + pagesIdle !== pagesTotal)
    problems.push(`${pagesTotal - pagesFree - pagesIdle} of ${pagesTotal} pages are held by nobody`);
  if (!(eventLoopP99Ms < MOST_LOOP_DELAY_MS)) problems.push(`event loop delay p99 of ${eventLoopP99Ms} ms`);
  for (const [name, { first, last }] of Object.entries(memory ?? {}))
    if (last > first * (1 + MEMORY_GROWTH.share) + MEMORY_GROWTH.bytes)
      problems.push(`the ${name}'s memory grew from ${first} to ${last} bytes`);
  return problems;
}
