// One generation on its way through the server. It is read as fast as it comes, whoever reads the
// response: times are the model's, not the client's, and a slow client slows only itself. What its
// client has not taken yet is kept as one piece, at most the answer.

import type { Generation, GenerationEvent, GenerationResult, TokenInfo, ToolCallDelta } from "../engine/model.js";

/** Told what happens as it happens. */
export interface AnswerWatcher {
  /** The first tokens, so many ms after the request. */
  first(count: number, milliseconds: number): void;
  /** Further tokens, so many ms after those before. */
  next(count: number, milliseconds: number): void;
}

export class AnswerFeed {
  readonly result: Promise<GenerationResult>;
  /** Settles when the answer has begun, or rejects with why it never will. */
  readonly begun: Promise<void>;
  #text = "";
  #ids: number[] = [];
  #tokens: TokenInfo[] | undefined;
  #toolCalls: ToolCallDelta[] | undefined;
  #over: { readonly error: unknown } | "complete" | null = null;
  #wake: () => void = () => {};
  #onBegun: (error?: { readonly error: unknown }) => void = () => {};

  /** @param asked when the request came, as `performance.now()` */
  constructor(generation: Generation, asked: number, watcher: AnswerWatcher) {
    this.result = generation.result;
    this.begun = new Promise((resolve, reject) => {
      this.#onBegun = (failed) => (failed ? reject(failed.error) : resolve());
    });
    // next() says it, or whoever awaits them.
    this.result.catch(() => {});
    this.begun.catch(() => {});
    void this.#read(generation, asked, watcher);
  }

  /** What has come since the last call, waiting for it if need be; `null` at the end. @throws why it ended early */
  async next(): Promise<GenerationEvent | null> {
    for (;;) {
      if (this.#text !== "" || this.#ids.length > 0 || this.#toolCalls) {
        return this.#take();
      }
      if (this.#over === "complete") return null;
      if (this.#over) throw this.#over.error;
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }

  #take(): GenerationEvent {
    const piece: GenerationEvent = {
      text: this.#text,
      ids: this.#ids,
      ...(this.#tokens && { tokens: this.#tokens }),
      ...(this.#toolCalls && { toolCalls: this.#toolCalls }),
    };
    this.#text = "";
    this.#ids = [];
    this.#tokens = undefined;
    this.#toolCalls = undefined;
    return piece;
  }

  async #read(generation: Generation, asked: number, watcher: AnswerWatcher): Promise<void> {
    let last: number | null = null;
    try {
      for await (const { text, ids, tokens, toolCalls } of generation.events()) {
        const now = performance.now();
        if (ids.length > 0) {
          if (last === null) watcher.first(ids.length, now - asked);
          else watcher.next(ids.length, now - last);
          last = now;
        }
        this.#text += text;
        for (const id of ids) this.#ids.push(id);
        if (tokens) {
          this.#tokens ??= [];
          for (const token of tokens) this.#tokens.push(token);
        }
        if (toolCalls) this.#toolCalls = [...(this.#toolCalls ?? []), ...toolCalls];
        this.#onBegun();
        this.#wake();
      }
      this.#over = "complete";
      this.#onBegun();
    } catch (error) {
      this.#over = { error };
      this.#onBegun({ error });
    }
    this.#wake();
  }
}
