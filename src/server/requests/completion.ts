// The body of POST /v1/completions.

import { z } from "zod";
import type { GenerateOptions } from "../../engine/model.js";
import { InvalidRequestError } from "../errors.js";
import { modelShape, type ServedModel } from "../served-model.js";
import { MOST_CHOICES, streamOptions } from "./chat.js";
import { constraintOf, constraintShape } from "./constraints.js";
import { checkGoesWith, checkLogprobs, harmlessShape, said, samplingOptions, samplingShape } from "./sampling.js";

/** Where the request does not say, as in OpenAI's API. */
const USUAL_TOKENS = 16;
const MOST_PROMPTS = 1024;
const MOST_LOGPROBS = 20;

const ids = z.array(z.int().min(0));

export const completionRequest = z.strictObject({
  ...modelShape,
  prompt: z.union([
    z.string(),
    z.array(z.string()).min(1).max(MOST_PROMPTS),
    ids.min(1),
    z.array(ids.min(1)).min(1).max(MOST_PROMPTS),
  ]),
  ...samplingShape,
  ...harmlessShape,
  ...constraintShape,
  max_tokens: z.int().min(0).nullish(),
  n: z.int().min(1).max(MOST_CHOICES).nullish(),
  best_of: z.int().min(1).max(MOST_CHOICES).nullish(),
  echo: z.boolean().nullish(),
  logprobs: z.int().min(0).max(MOST_LOGPROBS).nullish(),
  stream: z.boolean().nullish(),
  stream_options: streamOptions.nullish(),
  // Text prompts: spellings such as <|end|> become special tokens; begin with BOS.
  parse_special: z.boolean().nullish(),
  add_bos: z.boolean().nullish(),
});

export type CompletionRequest = z.output<typeof completionRequest>;
export type Prompt = string | number[];

/** The prompts, of which each gets its own answers. */
export function promptsOf({ prompt }: CompletionRequest): Prompt[] {
  if (typeof prompt === "string") return [prompt];
  return typeof prompt[0] === "number" ? [prompt as number[]] : (prompt as Prompt[]);
}

/** Answers computed for each prompt, and how many of them are given. */
export function choicesOf(request: CompletionRequest): { readonly computed: number; readonly given: number } {
  const given = request.n ?? 1;
  const computed = request.best_of ?? given;
  if (computed < given)
    throw new InvalidRequestError(`'best_of' of ${computed} cannot give ${given} answers`, {
      param: "best_of",
      hint: "It must be at least 'n'.",
    });
  if (computed > given && request.stream)
    throw new InvalidRequestError("the best of several answers is known when all are complete: it cannot be streamed", {
      param: "best_of",
    });
  return { computed, given };
}

/** What the engine is asked for one answer. */
export function completionOptions(request: CompletionRequest, prompt: Prompt, { adapters }: ServedModel): GenerateOptions {
  const { logprobs, echo } = request;
  if (request.stream_options) checkGoesWith(request.stream === true, "stream_options", "'stream': true");
  for (const name of ["parse_special", "add_bos"] as const)
    if (request[name] != null) checkGoesWith(typeof prompt === "string", name, "a prompt of text");
  checkLogprobs(promptsOf(request).length * choicesOf(request).computed, logprobs, "logprobs");
  const maxTokens = request.max_tokens ?? USUAL_TOKENS;
  if (echo && logprobs != null && request.stream)
    throw new InvalidRequestError("the prompt's log-probabilities come with the whole answer: they cannot be streamed", {
      param: "logprobs",
      hint: "Leave out 'stream' or 'echo'.",
    });
  const chosen = choicesOf(request).computed > (request.n ?? 1);
  if (maxTokens === 0 && !(echo && logprobs != null))
    throw new InvalidRequestError("'max_tokens' of 0 asks for nothing", {
      param: "max_tokens",
      hint: "With 'echo' and 'logprobs' it asks for the prompt's own log-probabilities.",
    });
  const forText = typeof prompt === "string" ? { parseSpecial: request.parse_special, addBos: request.add_bos } : {};
  return {
    ...samplingOptions(request),
    ...said<GenerateOptions>({
      ...forText,
      maxTokens,
      adapters,
      constraint: constraintOf(request),
      // The best of several is the one whose tokens were likeliest.
      logprobs: logprobs ?? (chosen ? 0 : undefined),
      promptLogprobs: echo ? logprobs : undefined,
    }),
  };
}
