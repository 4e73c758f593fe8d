// What Ctrl-C means in a chat.

import { INTERRUPTED_EXIT } from "../failure.js";
import { InterruptedError } from "../interrupt.js";

/**
 * Ctrl-C in a chat: while loading it ends the program, during an answer it ends the answer,
 * and pressed again before another line was typed it leaves.
 */
export class InterruptControl {
  onLeave: () => void = () => {};
  onFirst: () => void = () => {};
  left = false;
  #pressed = false;
  #running: AbortController | null = new AbortController();
  readonly loading: AbortSignal = this.#running!.signal;

  readonly press = (): void => {
    if (this.#pressed) {
      if (this.left) process.exit(INTERRUPTED_EXIT);
      this.left = true;
      this.onLeave();
      return;
    }
    this.#pressed = true;
    if (this.#running) this.#running.abort(new InterruptedError());
    else this.onFirst();
  };

  /** The signal of an answer that begins. */
  answering(): AbortSignal {
    this.#running = new AbortController();
    return this.#running.signal;
  }

  /** Loading or an answer is over; a Ctrl-C that came while it ran still counts as the first. */
  answered(): void {
    this.#running = null;
  }

  /** A line was typed. */
  rearm(): void {
    this.#pressed = false;
  }
}
