// Answers on their way to the caller: what all sequences say in one step leaves in one message,
// and while the caller has too many such messages unread, it is kept here and joined, one piece
// for each sequence. So a slow reader costs at most its answers, never a queue.

import type { GenerationEvent } from "./model.js";
import { PieceBuffer } from "./piece-buffer.js";
import type { FromEngine } from "./protocol.js";

/** Step messages that may be under way unread. */
const MOST_UNREAD = 64;

export class Outbox {
  readonly #send: (message: FromEngine) => void;
  readonly #pieces = new Map<number, PieceBuffer>();
  #unread = 0;
  #scheduled = false;

  constructor(send: (message: FromEngine) => void) {
    this.#send = send;
  }

  /** What a sequence says; leaves when the step's other sequences have had their turn. */
  add(id: number, event: GenerationEvent): void {
    let buffer = this.#pieces.get(id);
    if (!buffer) {
      buffer = new PieceBuffer();
      this.#pieces.set(id, buffer);
    }
    buffer.add(event);
    if (this.#scheduled) return;
    this.#scheduled = true;
    // Streams hand their pieces on some microtasks apart; after those, all of one step is here.
    setImmediate(() => {
      this.#scheduled = false;
      this.#flush();
    });
  }

  /** Sends what a sequence still has here: before its last message. */
  finish(id: number): void {
    const piece = this.#pieces.get(id)?.take();
    if (piece) this.#sendStep([[id, piece]]);
    this.#pieces.delete(id);
  }

  /** Forgets a sequence that nobody listens to any more. */
  drop(id: number): void {
    this.#pieces.delete(id);
  }

  acknowledge(steps: number): void {
    this.#unread -= steps;
    this.#flush();
  }

  #flush(): void {
    if (this.#pieces.size === 0 || this.#unread >= MOST_UNREAD) return;
    const pieces = [...this.#pieces].map(([id, buffer]) => [id, buffer.take()!] as const);
    this.#pieces.clear();
    this.#sendStep(pieces);
  }

  #sendStep(pieces: ReadonlyArray<readonly [number, GenerationEvent]>): void {
    this.#unread += 1;
    this.#send({ type: "step", pieces });
  }
}
