// One case on the cards: planned, loaded, its whole context used, probes answered, given back;
// watched from outside from before the first byte to after the last token.

import { setTimeout as sleep } from "node:timers/promises";
import type { Card } from "../../../src/backend/cuda/cards/cards.js";
import { type GenerateOptions, loadModel, type Model, PlanRefusedError } from "../../../src/index.js";
import type { CardSampler } from "../card-sampler.js";
import type { SplitCase } from "./cases.js";

export interface Refused {
  readonly kind: "refused";
  readonly code: string;
  readonly message: string;
  readonly hint: string | undefined;
}

/** One card; sizes in bytes, over all entries that share it. */
export interface CardOutcome {
  readonly id: string;
  readonly layers: readonly number[];
  readonly cap: number;
  readonly planned: number;
  /** Of it, what was allocated in arenas. */
  readonly arena: number;
  /** Most that the card showed beyond its use before the first CUDA call. */
  readonly peak: number;
}

export interface Ran {
  readonly kind: "ran";
  readonly context: number;
  readonly largestContext: number;
  readonly cards: readonly CardOutcome[];
  readonly samples: number;
  readonly loadMs: number;
  readonly firstTokenMs: number;
  /** Of the last tokens, at the end of the context. */
  readonly tokenMs: number;
  /** Greedy ids after a prompt that is the same for every split. */
  readonly probe: readonly number[];
  /** Ids drawn after the same prompt: of made-up weights the greedy ones are one token over and over. Earlier records have none. */
  readonly sampled?: readonly number[];
}

const LAST_TOKENS = 256;
const PROBE_PROMPT = 300;
const PROBE_TOKENS = 64;
const GREEDY = { temperature: 0 };
/** From all tokens, by their probabilities as they are. */
const SAMPLED = { temperature: 1, topK: 0, topP: 1, minP: 0, typical: 0, repetitionPenalty: 1, seed: 305 };

export async function runCase(
  { model: name, options, fills }: SplitCase,
  cards: readonly Card[],
  sampler: CardSampler,
): Promise<Refused | Ran> {
  await sleep(300); // the last engine's process has ended, and the driver has cleaned up behind it
  const before = (await sampler.reset()).now;
  const begun = performance.now();
  let model: Model;
  try {
    model = await loadModel(name, options);
  } catch (error) {
    if (!(error instanceof PlanRefusedError)) throw error;
    return { kind: "refused", code: error.code, message: error.message, hint: error.hint };
  }
  try {
    const loadMs = performance.now() - begun;
    const { plan } = model;
    const probe = await answer(model, PROBE_PROMPT, PROBE_TOKENS, GREEDY);
    const sampled = await answer(model, PROBE_PROMPT, PROBE_TOKENS, SAMPLED);
    const full = fills ? await answer(model, plan.context - LAST_TOKENS, LAST_TOKENS, GREEDY) : probe;
    const { peak, samples } = await sampler.read();
    return {
      kind: "ran",
      context: plan.context,
      largestContext: plan.largestContext.f16,
      cards: cards.flatMap(({ uuid, ordinal }, i) => {
        const entries = plan.devices.filter(({ card }) => card === uuid);
        if (entries.length === 0) return [];
        const sum = (of: (entry: (typeof entries)[number]) => number) => entries.reduce((total, entry) => total + of(entry), 0);
        return {
          id: `cuda:${ordinal}`,
          layers: entries.map(({ layers }) => layers.count),
          cap: sum(({ cap }) => cap),
          planned: sum(({ total }) => total),
          arena: sum(({ stage }) => stage?.arenas.reduce((bytes, arena) => bytes + arena.bytes, 0) ?? 0),
          peak: peak[i]! - before[i]!,
        };
      }),
      samples,
      loadMs,
      firstTokenMs: full.timings.promptMs,
      tokenMs: 1000 / full.timings.tokensPerSecond,
      probe: probe.ids,
      sampled: sampled.ids,
    };
  } finally {
    await model.dispose();
  }
}

function answer(model: Model, promptTokens: number, maxTokens: number, sampling: GenerateOptions) {
  const ids = Array.from({ length: promptTokens }, (_, i) => (i * 7919 + 5) % model.info.vocabSize);
  return model.generate(ids, { ...sampling, maxTokens, ignoreEos: true }).result;
}
