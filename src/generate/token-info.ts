// Tokens as they are told beside their log-probabilities: with the bytes and the text that each
// stands for by itself, which need not be whole characters.

import type { TokenLogprob } from "../backend/backend.js";
import type { LikelyToken, ShownToken } from "./request.js";

/** The bytes that a token stands for; none for an id that no token has. */
export type BytesOf = (id: number) => Uint8Array;

const decoder = new TextDecoder("utf-8", { ignoreBOM: true });

export function showToken(id: number, bytesOf: BytesOf): ShownToken {
  const bytes = bytesOf(id);
  return { id, text: decoder.decode(bytes), bytes: Array.from(bytes) };
}

export function showLikely(tokens: readonly TokenLogprob[], bytesOf: BytesOf): LikelyToken[] {
  return tokens.map(({ id, logprob }) => ({ ...showToken(id, bytesOf), logprob }));
}
