// An answer on the caller's side: pieces of text for `for await`, and the whole as `result`.
// Text that nobody has asked for yet is one growing string, so a slow reader holds at most the
// answer itself; an answer nobody reads still completes.

import { ExllamaError } from "../errors.js";
import type { PendingCall } from "./connection.js";
import { GenerationCancelledError } from "./errors.js";
import type { Generation, GenerationResult } from "./model.js";

/** Begins a request; `onText` gets its text as it comes. */
export type StartAnswer = (onText: (text: string) => void) => PendingCall<GenerationResult>;

type Piece = IteratorResult<string, undefined>;
const END: Piece = { done: true, value: undefined };

export class Answer implements Generation {
  readonly result: Promise<GenerationResult>;
  readonly #call: PendingCall<GenerationResult>;
  #unread = "";
  #over: { readonly error: unknown } | "complete" | null = null;
  #wake: () => void = () => {};
  #iterated = false;

  /** @param signal the caller's: once aborted, text not yet read is not handed out any more */
  constructor(start: StartAnswer, signal?: AbortSignal) {
    this.#call = start((text) => {
      this.#unread += text;
      this.#wake();
    });
    this.result = this.#call.reply;
    // Handling the rejection here also keeps a program that only iterates free of unhandled ones.
    this.result.then(
      () => this.#end("complete"),
      (error: unknown) => {
        if (signal?.aborted) this.#unread = "";
        this.#end({ error });
      },
    );
  }

  [Symbol.asyncIterator](): AsyncIterator<string, undefined> {
    if (this.#iterated)
      throw new ExllamaError("GENERATION_READ_TWICE", "this generation is already being read", {
        hint: "await its `result` for the whole answer",
      });
    this.#iterated = true;
    let left = false;
    let turn: Promise<unknown> = Promise.resolve();
    return {
      next: () => {
        const piece = turn.then(() => (left ? END : this.#next(() => left)));
        turn = piece.catch(() => {
          left = true;
        });
        return piece;
      },
      // An early `break`: the sequence is free when the loop has been left.
      return: async () => {
        left = true;
        this.#wake();
        await this.#call.cancel(new GenerationCancelledError());
        return END;
      },
    };
  }

  async #next(left: () => boolean): Promise<Piece> {
    while (!left()) {
      if (this.#unread !== "") {
        const value = this.#unread;
        this.#unread = "";
        return { done: false, value };
      }
      if (this.#over === "complete") return END;
      if (this.#over) throw this.#over.error;
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
    return END;
  }

  #end(how: { readonly error: unknown } | "complete"): void {
    this.#over = how;
    this.#wake();
  }
}
