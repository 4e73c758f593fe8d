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
 * @param offsets where in the choice's text the tokens begin
 */
export function completionLogprobs(tokens: ReadonlyArray<TokenInfo | PromptTokenInfo>, offsets: TextOffsets) {
  return {
    tokens: tokens.map(({ text }) => text),
    token_logprobs: tokens.map(({ logprob }) => (logprob === null ? null : finite(logprob))),
    top_logprobs: tokens.map(({ top, logprob }) =>
      logprob === null ? null : Object.fromEntries(top.map((likely) => [likely.text, finite(likely.logprob)])),
    ),
    text_offset: tokens.map(({ bytes }) => offsets.next(bytes)),
  };
}

/** Where tokens begin in their text, in UTF-16 code units, which is how JavaScript counts. */
export class TextOffsets {
  readonly #text: Buffer | null;
  #byte = 0;
  #unit = 0;

  /**
   * @param text what the tokens spell, where it is known: special tokens are not in it, and the
   *   space that a tokenizer puts before a text is not, either
   */
  constructor(text: string | null = null) {
    this.#text = text === null ? null : Buffer.from(text);
  }

  /** Offset of the next token. */
  next(bytes: readonly number[]): number {
    const begin = this.#unit;
    if (this.#text === null) this.#skip(bytes);
    else if (this.#isNext(this.#text, bytes)) this.#skip(bytes);
    else if (bytes[0] === SPACE && this.#isNext(this.#text, bytes.slice(1))) this.#skip(bytes.slice(1));
    return begin;
  }

  #isNext(text: Buffer, bytes: readonly number[]): boolean {
    return bytes.every((byte, i) => text[this.#byte + i] === byte);
  }

  #skip(bytes: readonly number[]): void {
    this.#byte += bytes.length;
    // Bytes that begin a character; those that begin one of four bytes are two units.
    for (const byte of bytes) if ((byte & 0xc0) !== 0x80) this.#unit += byte >= 0xf0 ? 2 : 1;
  }
}

const SPACE = 0x20;
