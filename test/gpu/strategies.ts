// Forked sequences, a draft model on the same card, guidance and beams. Steps of other shapes
// round differently on a GPU, so an answer may part from the plain one where the model itself has
// two candidates this close, and nowhere else.

import type { Backend } from "../../src/backend/backend.js";
import { type GenerateOptions, type GenerationResult, loadModel, type Model } from "../../src/index.js";
import { Driver } from "../conformance/driver.js";
import { fixture } from "../support/fixtures.js";
import type { Report } from "./report.js";

/** Logits between the two likeliest tokens. */
const TIE = 0.05;
const demo = fixture("demo-gptq-4bit-g128");
const prompts = ["Once upon a time there was a little fox who", "The fox is red. The bear is brown. The fox is red. The bear"];
const greedy: GenerateOptions = { temperature: 0, maxTokens: 120, ignoreEos: true };

export async function checkStrategies(backend: Backend, report: Report): Promise<void> {
  for (const cacheType of backend.packing.cacheTypes)
    await report.check(`a fork of copied pages goes on with the same bits, ${cacheType}`, () => checkFork(backend, cacheType));
  const options = { backend: "cuda", ctx: 1024, maxSequences: 4, cacheTokens: 8192, draft: fixture("draft-fp16") } as const;
  await using model = await loadModel(demo, options);
  await report.check("a draft model's guesses change no answer", async () => {
    const said: string[] = [];
    for (const prompt of prompts) for (const speculate of [2, 5]) said.push(await compare(model, prompt, { speculate }));
    return said.join("; ");
  });
  await report.check("guesses from the text change no answer", () =>
    compare(model, prompts[1]!, { speculate: { tokens: 6, ngram: 2 } }),
  );
  await report.check("guidance of scale 1 and one beam are the plain answer", async () => {
    const guided = await compare(model, prompts[0]!, { guidance: { scale: 1, negative: "Rain." } });
    return `${guided}; ${await compare(model, prompts[0]!, { beams: { count: 1, length: 4 } })}`;
  });
  await report.check("beams part and drop beside other requests", async () => {
    const ask = () =>
      model.generate(prompts[0]!, { ...greedy, maxTokens: 40, beams: { count: 3, length: 6 }, speculate: 0 }).result;
    const [beams, plain] = await Promise.all([ask(), model.generate(prompts[1]!, { ...greedy, maxTokens: 40 }).result]);
    if (beams.ids.length !== 40 || plain.ids.length !== 40) throw new Error("an answer is too short");
    return beams.text.slice(0, 60);
  });
}

/** The original and its copy, fed the same one after the other: steps of equal shapes. */
async function checkFork(backend: Backend, cacheType: "f32" | "f16" | "q8" | "q4"): Promise<string> {
  await using driver = await Driver.load(backend, demo, { cacheType, context: 1024, prefillChunk: 256, maxSequences: 2 });
  const ids = Array.from({ length: 300 }, (_, i) => 3 + ((i * 131) % 3900));
  const original = driver.newSequence();
  await driver.read(original, ids, () => null);
  const fork = await driver.fork(original);
  const rows: Buffer[] = [];
  for (const sequence of [original, fork]) {
    const logits: Float32Array[] = [];
    for (const id of [5, 90, 700, 41]) logits.push((await driver.read(sequence, [id], () => ({ logits: true })))[0]!.logits!);
    rows.push(Buffer.concat(logits.map((row) => Buffer.from(row.buffer, row.byteOffset, row.byteLength))));
  }
  if (!rows[0]!.equals(rows[1]!)) throw new Error("the fork's logits differ");
  return "four tokens";
}

/** @throws where the answer parts from the plain one without a tie */
async function compare(model: Model, prompt: string, options: GenerateOptions): Promise<string> {
  const without: GenerateOptions = options.guidance || options.beams ? {} : { speculate: 0 };
  const plain = await model.generate(prompt, { ...greedy, speculate: 0, logprobs: 2 }).result;
  const other = await model.generate(prompt, { ...greedy, ...without, ...options }).result;
  const at = plain.ids.findIndex((id, i) => id !== other.ids[i]);
  if (at >= 0) {
    const [first, second] = plain.tokens![at]!.top;
    const margin = first!.logprob - second!.logprob;
    if (margin > TIE) throw new Error(`token ${at} differs, where the model is ${margin.toFixed(3)} logits sure`);
  }
  return `${at < 0 ? "equal" : `equal up to a tie at ${at}`}${guesses(other)}`;
}

function guesses({ speculation, timings }: GenerationResult): string {
  if (!speculation) return "";
  return `, ${speculation.accepted} of ${speculation.proposed} guesses right, ${timings.tokensPerSecond.toFixed(0)} tokens per second`;
}
