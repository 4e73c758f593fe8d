// Log-probabilities in OpenAI's two shapes.

import type { LikelyToken, PromptTokenInfo, TokenInfo } from "../engine/model.js";

/** As chat completions have them. */
export function chatLogprobs(tokens: readonly TokenInfo[] = []) {
  return {
    content: tokens.map((token) => ({ ...chatToken(token), top_logprobs: token.top.map(chatToken) })),
    refusal: null,
  };
}

function chatToken({ text, logprob, bytes }: LikelyToken) {
  return { token: text, logprob: finite(logprob), bytes };
}

/** JSON has no −∞; OpenAI's API writes it so. */
function finite(logprob: number): number {
  return Number.isFinite(logprob) ? logprob : -9999;
}

/**
 * As completions have them: four lists, one entry for each token.
 *
 * @param offset characters of the choice's text before the first of these tokens
 */
export function completionLogprobs(tokens: ReadonlyArray<TokenInfo | PromptTokenInfo>, offset: number) {
  let at = offset;
  const offsets = tokens.map(({ text }) => {
    const begin = at;
    at += text.length;
    return begin;
  });
  return {
    tokens: tokens.map(({ text }) => text),
    token_logprobs: tokens.map(({ logprob }) => (logprob === null ? null : finite(logprob))),
    top_logprobs: tokens.map(({ top, logprob }) =>
      logprob === null ? null : Object.fromEntries(top.map((likely) => [likely.text, finite(likely.logprob)])),
    ),
    text_offset: offsets,
  };
}
