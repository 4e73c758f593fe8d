// Events of one answer that nobody has taken yet, joined into one.

import type { GenerationEvent, TokenInfo, ToolCallDelta } from "./model.js";

export class PieceBuffer {
  #text = "";
  #ids: number[] = [];
  #tokens: TokenInfo[] | null = null;
  #toolCalls: ToolCallDelta[] | null = null;

  add({ text, ids, tokens, toolCalls }: GenerationEvent): void {
    this.#text += text;
    for (const id of ids) this.#ids.push(id);
    if (tokens) {
      this.#tokens ??= [];
      for (const token of tokens) this.#tokens.push(token);
    }
    if (toolCalls) {
      this.#toolCalls ??= [];
      for (const delta of toolCalls) addDelta(this.#toolCalls, delta);
    }
  }

  /** Everything so far as one event, which leaves this empty; `null` when there is nothing. */
  take(): GenerationEvent | null {
    if (this.#text === "" && this.#ids.length === 0 && !this.#toolCalls) return null;
    const event = {
      text: this.#text,
      ids: this.#ids,
      ...(this.#tokens && { tokens: this.#tokens }),
      ...(this.#toolCalls && { toolCalls: this.#toolCalls }),
    };
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
    this.#toolCalls = null;
  }
}

/** Pieces of one call that follow each other become one. */
function addDelta(deltas: ToolCallDelta[], delta: ToolCallDelta): void {
  const last = deltas.at(-1);
  if (last?.index !== delta.index || delta.id !== undefined) deltas.push(delta);
  else deltas[deltas.length - 1] = { ...last, arguments: (last.arguments ?? "") + (delta.arguments ?? "") };
}
