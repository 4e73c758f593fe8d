// The checks of `exllama validate`, one load of the model after the other: each way to compute the
// same text is held against the first. Only one copy of the model is in memory at a time.

import type { AdapterChoice, LoadOptions, Model } from "../../index.js";
import { type GreedyAnswer, judgeAnswers, judgeScores, type Scores, type Verdict } from "./judge.js";

export interface ValidationOptions {
  /** Loads the model, these options over all others; the caller's own model is given back before the next. */
  readonly open: (options: LoadOptions) => Promise<Model>;
  /** The text; `null`: the model writes one itself. */
  readonly ids: readonly number[] | null;
  /** Ids of the text that are predicted, at most. */
  readonly tokens: number;
  /** Largest difference of perplexity to the exact path; `null`: that path is left out. */
  readonly allowedToExact: (backend: Model["info"]["backend"]) => number | null;
  readonly adapters: readonly AdapterChoice[];
  readonly signal: AbortSignal;
  readonly onCheck: (name: string) => void;
}

export interface Validation {
  readonly backend: Model["info"]["backend"];
  /** Ids that were predicted. */
  readonly tokens: number;
  readonly verdicts: readonly Verdict[];
}

/** Answers that are generated at once, as in ExLlama's own validation. */
const BATCH = 8;
const ANSWER_TOKENS = 24;
/** Larger than a decode step, smaller than what GPUs hand to their matrix products for many tokens. */
const SMALL_CHUNK = 24;
/** Where other numbers of rows take other kernels, and sums another order. The CPU promises equal bits. */
const GPU_ROUNDING = 1e-3;

interface First {
  readonly backend: Model["info"]["backend"];
  readonly ids: readonly number[];
  readonly scores: Scores;
  readonly again: Scores;
  readonly alone: readonly GreedyAnswer[];
}

export async function validate(options: ValidationOptions): Promise<Validation> {
  const { adapters, signal, onCheck, tokens } = options;
  // What the longest check needs, and no more: each load takes its memory anew.
  const context = Math.max(tokens + 1, longestPrompt() + ANSWER_TOKENS);
  const on = async <T>(load: LoadOptions, work: (model: Model) => Promise<T>): Promise<T> => {
    const model = await options.open({ ctx: context, maxSequences: 1, ...load });
    try {
      return await work(model);
    } finally {
      await model.dispose();
    }
  };
  const score = (ids: readonly number[]) => (model: Model) => model.logprobs(ids, { adapters, signal });

  onCheck("the text, once and again");
  const first = await on({}, async (model): Promise<First> => {
    const ids = (options.ids ?? (await ownText(model, tokens + 1, signal))).slice(0, tokens + 1);
    const scores = await score(ids)(model);
    const again = await score(ids)(model);
    const alone: GreedyAnswer[] = [];
    for (const prompt of promptsOf(ids)) alone.push(await answer(model, prompt, options));
    return { backend: model.info.backend, ids, scores, again, alone };
  });
  const { backend, ids, scores } = first;
  const rounding = backend === "cpu" ? 0 : GPU_ROUNDING;
  const verdicts: Verdict[] = [judgeScores("again", first.again, scores, 0)];

  onCheck(`${BATCH} answers at once`);
  const batch = { maxSequences: BATCH, cacheTokens: BATCH * Math.ceil(context / 256) * 256 };
  await on(batch, async (model) => {
    const together = await Promise.all(promptsOf(ids).map((prompt) => answer(model, prompt, options)));
    verdicts.push(judgeAnswers(`a batch of ${BATCH}, against alone`, together, first.alone, rounding));
    verdicts.push(judgeScores("loaded anew", await score(ids)(model), scores, 0));
  });
  for (const [name, prefillChunk] of [
    ["token by token, against a prompt", 1],
    [`in chunks of ${SMALL_CHUNK}`, SMALL_CHUNK],
  ] as const) {
    onCheck(name);
    verdicts.push(judgeScores(name, await on({ prefillChunk }, score(ids)), scores, rounding));
  }
  const allowed = options.allowedToExact(backend);
  if (allowed !== null) {
    onCheck("the exact path");
    verdicts.push(judgeScores("against the exact path", scores, await on({ cpuExact: true }, score(ids)), allowed));
  }
  return { backend, tokens: ids.length - 1, verdicts };
}

/** Prompts of different lengths, from different places of the text. */
function promptsOf(ids: readonly number[]): number[][] {
  return Array.from({ length: BATCH }, (_, i) => {
    const length = Math.min(promptLength(i), ids.length);
    const start = Math.floor(((ids.length - length) * i) / BATCH);
    return ids.slice(start, start + length);
  });
}

function promptLength(i: number): number {
  return 4 + 7 * i;
}

function longestPrompt(): number {
  return promptLength(BATCH - 1);
}

async function answer(model: Model, prompt: readonly number[], { adapters, signal }: ValidationOptions): Promise<GreedyAnswer> {
  const greedy = { temperature: 0, maxTokens: ANSWER_TOKENS, ignoreEos: true, logprobs: 0 } as const;
  const { ids, tokens = [] } = await model.generate(prompt, { ...greedy, adapters, signal }).result;
  return { ids, logprobs: Float32Array.from(tokens, ({ logprob }) => logprob) };
}

/** A text that the model finds neither strange nor certain: what it says itself, from a fixed seed. */
async function ownText(model: Model, length: number, signal: AbortSignal): Promise<number[]> {
  const start = [Math.min(1, model.info.vocabSize - 1)];
  const plain = { temperature: 0.8, topK: 0, topP: 0.95, minP: 0, typical: 0, repetitionPenalty: 1, ignoreEos: true } as const;
  const { ids } = await model.generate(start, { ...plain, seed: 1, maxTokens: length - 1, signal }).result;
  return [...start, ...ids];
}
