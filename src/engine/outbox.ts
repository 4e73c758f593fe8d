// Text on its way to the caller: what all sequences say in one step leaves in one message, and
// while the caller has too many such messages unread, text is kept here and joined, one string
// for each sequence. So a slow reader costs at most the text of its answers, never a queue.

import type { FromEngine } from "./protocol.js";

/** Step messages that may be under way unread. */
const MOST_UNREAD = 64;

export class Outbox {
  readonly #send: (message: FromEngine) => void;
  readonly #texts = new Map<number, string>();
  #unread = 0;
  #scheduled = false;

  constructor(send: (message: FromEngine) => void) {
    this.#send = send;
  }

  /** Text of a sequence; leaves when the step's other sequences have had their turn. */
  add(id: number, text: string): void {
    if (text === "") return;
    this.#texts.set(id, (this.#texts.get(id) ?? "") + text);
    if (this.#scheduled) return;
    this.#scheduled = true;
    // Streams hand their text on some microtasks apart; after those, all of one step is here.
    setImmediate(() => {
      this.#scheduled = false;
      this.#flush();
    });
  }

  /** Sends what a sequence still has here: before its last message. */
  finish(id: number): void {
    const text = this.#texts.get(id);
    if (text !== undefined) this.#sendStep([[id, text]]);
    this.#texts.delete(id);
  }

  /** Forgets a sequence that nobody listens to any more. */
  drop(id: number): void {
    this.#texts.delete(id);
  }

  acknowledge(steps: number): void {
    this.#unread -= steps;
    this.#flush();
  }

  #flush(): void {
    if (this.#texts.size === 0 || this.#unread >= MOST_UNREAD) return;
    const texts = [...this.#texts];
    this.#texts.clear();
    this.#sendStep(texts);
  }

  #sendStep(texts: ReadonlyArray<readonly [number, string]>): void {
    this.#unread += 1;
    this.#send({ type: "step", texts });
  }
}
