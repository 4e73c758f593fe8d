// Parameters that every answer takes, with OpenAI's names where OpenAI has one. What each means and
// may be, the engine says (`sampling/parameters.ts`); here only the kinds of values are checked, and
// what the engine calls differently is renamed.

import { z } from "zod";
import type { GenerateOptions } from "../../engine/model.js";
import { InvalidRequestError } from "../errors.js";

const number = z.number().nullish();
const ids = z.array(z.int().min(0)).nullish();

export const samplingShape = {
  temperature: number,
  top_p: number,
  frequency_penalty: number,
  presence_penalty: number,
  seed: z.int().min(0, { error: "a whole number from 0 to 2^53 - 1" }).nullish(),
  stop: z.union([z.string(), z.array(z.string()).max(64)]).nullish(),
  logit_bias: z.record(z.string().regex(/^\d+$/, { error: "keys are token ids" }), z.number()).nullish(),
  // What ExLlama has beside OpenAI's.
  top_k: number,
  min_p: number,
  typical_p: number,
  repetition_penalty: number,
  penalty_sustain: number,
  penalty_decay: number,
  banned_ids: ids,
  stop_ids: ids,
  ignore_eos: z.boolean().nullish(),
  // Away from what a negative prompt would say, a text (in chats: another system message) or ids.
  guidance: z.strictObject({ scale: z.number(), negative_prompt: z.union([z.string(), z.array(z.int().min(0))]) }).nullish(),
  // Beam search: so many beams, grown so many tokens ahead.
  beams: z.strictObject({ count: z.int(), length: z.int() }).nullish(),
  // The ids of the answer's tokens beside its text.
  return_token_ids: z.boolean().nullish(),
};

/** Accepted and without effect: they only tell requests apart, or ask for what is the case anyway. */
export const harmlessShape = {
  user: z.string().nullish(),
  safety_identifier: z.string().nullish(),
  prompt_cache_key: z.string().nullish(),
  metadata: z.record(z.string(), z.unknown()).nullish(),
  store: z.literal(false, { error: "only false: answers are not kept" }).nullish(),
  service_tier: z.enum(["auto", "default"], { error: "only auto or default: there is one tier" }).nullish(),
};

type SamplingValues = z.output<z.ZodObject<typeof samplingShape>>;

/** As the engine takes them; what was not said stays unsaid, for the model's own defaults. */
export function samplingOptions(values: SamplingValues): GenerateOptions {
  const { logit_bias: bias, guidance } = values;
  return said({
    temperature: values.temperature,
    topP: values.top_p,
    topK: values.top_k,
    minP: values.min_p,
    typical: values.typical_p,
    frequencyPenalty: values.frequency_penalty,
    presencePenalty: values.presence_penalty,
    repetitionPenalty: values.repetition_penalty,
    penaltySustain: values.penalty_sustain,
    penaltyDecay: values.penalty_decay,
    seed: values.seed,
    stop: values.stop,
    stopIds: values.stop_ids,
    bannedIds: values.banned_ids,
    ignoreEos: values.ignore_eos,
    guidance: guidance && { scale: guidance.scale, negative: guidance.negative_prompt },
    beams: values.beams,
    logitBias: bias && Object.entries(bias).map(([id, value]) => [Number(id), value] as const),
  });
}

/** Sequences that one answer takes in the engine. */
export function widthOf({ beams, guidance }: SamplingValues): number {
  return Math.max(1, beams?.count ?? 1) * (guidance ? 2 : 1);
}

/** What of a negative prompt becomes tokens. */
export function negativeTextsOf({ guidance }: SamplingValues): string[] {
  return typeof guidance?.negative_prompt === "string" ? [guidance.negative_prompt] : [];
}

/** Log-probabilities beside each position of a response, over all of its answers: it must fit into memory as text. */
const MOST_LOGPROBS_A_POSITION = 256;

/** @param alternatives beside each token; none at all where log-probabilities are not asked for */
export function checkLogprobs(answers: number, alternatives: number | null | undefined, param: string): void {
  if (alternatives == null || answers * (alternatives + 1) <= MOST_LOGPROBS_A_POSITION) return;
  throw new InvalidRequestError(
    `${answers} answers with ${alternatives} alternatives for each token are too much for one response`,
    {
      param,
      hint: `Answers times (alternatives + 1) may be ${MOST_LOGPROBS_A_POSITION} at most.`,
    },
  );
}

/** A parameter that says nothing without another one is refused rather than ignored. */
export function checkGoesWith(there: boolean, param: string, other: string): void {
  if (!there) throw new InvalidRequestError(`'${param}' says nothing without ${other}`, { param, hint: "Leave it out." });
}

type Unsaid<T> = { readonly [K in keyof T]?: T[K] | null | undefined };

/** Leaves out what is null or undefined. */
export function said<T extends object>(values: Unsaid<T>): T {
  return Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined && value !== null)) as T;
}
