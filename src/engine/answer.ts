// An answer on the caller's side: pieces of text for `for await`, or events with ids and
// log-probabilities, and the whole as `result`. What nobody has asked for yet is one growing
// piece, so a slow reader holds at most the answer itself; an answer nobody reads still completes.

import { ExllamaError } from "../errors.js";
import type { PendingCall } from "./connection.js";
import { GenerationCancelledError } from "./errors.js";
import type { Generation, GenerationEvent, GenerationResult } from "./model.js";
import { PieceBuffer } from "./piece-buffer.js";

/** Begins a request; `onPiece` gets what it says as it comes. */
export type StartAnswer = (onPiece: (piece: GenerationEvent) => void) => PendingCall<GenerationResult>;

const END = { done: true, value: undefined } as const;

export class Answer implements Generation {
  readonly result: Promise<GenerationResult>;
  readonly #call: PendingCall<GenerationResult>;
  readonly #unread = new PieceBuffer();
  #over: { readonly error: unknown } | "complete" | null = null;
  #wake: () => void = () => {};
  #iterated = false;

  /** @param signal the caller's: once aborted, what is not yet read is not handed out any more */
  constructor(start: StartAnswer, signal?: AbortSignal) {
    this.#call = start((piece) => {
      this.#unread.add(piece);
      this.#wake();
    });
    this.result = this.#call.reply;
    // Handling the rejection here also keeps a program that only iterates free of unhandled ones.
    this.result.then(
      () => this.#end("complete"),
      (error: unknown) => {
        if (signal?.aborted) this.#unread.clear();
        this.#end({ error });
      },
    );
  }

  [Symbol.asyncIterator](): AsyncIterator<string, undefined> {
    return this.#iterate(() => this.#unread.takeText() || null);
  }

  events(): AsyncIterable<GenerationEvent> {
    return { [Symbol.asyncIterator]: () => this.#iterate(() => this.#unread.take()) };
  }

  /** @param take what there is to hand out now, or `null` */
  #iterate<T>(take: () => T | null): AsyncIterator<T, undefined> {
    if (this.#iterated)
      throw new ExllamaError("GENERATION_READ_TWICE", "this generation is already being read", {
        hint: "await its `result` for the whole answer",
      });
    this.#iterated = true;
    let left = false;
    let turn: Promise<unknown> = Promise.resolve();
    return {
      next: () => {
        const piece = turn.then(() => (left ? END : this.#next(take, () => left)));
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

  async #next<T>(take: () => T | null, left: () => boolean): Promise<IteratorResult<T, undefined>> {
    while (!left()) {
      const value = take();
      if (value !== null) return { done: false, value };
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
