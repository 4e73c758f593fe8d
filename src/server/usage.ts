// What an answer cost, as the OpenAI API says it, and how long it took.

import type { GenerationResult } from "../engine/model.js";

export interface Usage {
  readonly prompt_tokens: number;
  readonly completion_tokens: number;
  readonly total_tokens: number;
  readonly prompt_tokens_details: { readonly cached_tokens: number };
}

/** @param prompts results grouped by prompt: each prompt counts once, however many answers it got */
export function usageOf(prompts: ReadonlyArray<readonly GenerationResult[]>): Usage {
  const total = (values: readonly number[]) => values.reduce((sum, value) => sum + value, 0);
  const promptTokens = total(prompts.map((results) => results[0]?.promptTokens ?? 0));
  const cached = total(prompts.map((results) => results[0]?.timings.reusedTokens ?? 0));
  const generated = total(prompts.flat().map((result) => result.ids.length));
  return {
    prompt_tokens: promptTokens,
    completion_tokens: generated,
    total_tokens: promptTokens + generated,
    prompt_tokens_details: { cached_tokens: cached },
  };
}

/** Beside what OpenAI's API says: the times of the first answer. */
export function timingsOf({ timings }: GenerationResult) {
  return {
    first_token_ms: timings.firstTokenMs,
    prompt_ms: timings.promptMs,
    generation_ms: timings.generationMs,
    prompt_tokens_per_second: timings.promptTokensPerSecond,
    tokens_per_second: timings.tokensPerSecond,
    reused_tokens: timings.reusedTokens,
  };
}
