// Events of one answer that nobody has taken yet, joined into one.

import type { GenerationEvent, TokenInfo } from "./model.js";

export class PieceBuffer {
  #text = "";
  #ids: number[] = [];
  #tokens: TokenInfo[] | null = null;

  add({ text, ids, tokens }: GenerationEvent): void {
    this.#text += text;
    for (const id of ids) this.#ids.push(id);
    if (!tokens) return;
    this.#tokens ??= [];
    for (const token of tokens) this.#tokens.push(token);
  }

  /** Everything so far as one event, which leaves this empty; `null` when there is nothing. */
  take(): GenerationEvent | null {
    if (this.#text === "" && this.#ids.length === 0) return null;
    const event = { text: this.#text, ids: this.#ids, ...(this.#tokens && { tokens: this.#tokens }) };
    this.clear();
    return event;
  }

  /** Takes the text alone: for a reader who wants nothing else. */
  takeText(): string {
    const text = this.#text;
    this.clear();
    return text;
  }

  clear(): void {
    this.#text = "";
    this.#ids = [];
    this.#tokens = null;
  }
}
