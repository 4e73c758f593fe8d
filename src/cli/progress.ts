// A bar on standard error while something takes its time; nothing where nobody watches.

import { styleFor } from "./style.js";

const WIDTH = 28;
/** Redraw at most so often, ms. */
const EVERY_MS = 50;

export class ProgressBar {
  readonly #what: string;
  readonly #stream: NodeJS.WriteStream;
  #lastDrawn = 0;
  #visible = false;

  constructor(what: string, stream: NodeJS.WriteStream = process.stderr) {
    this.#what = what;
    this.#stream = stream;
  }

  /** @param figures what to say behind the bar, e.g. `1.2 of 3.5 GiB` */
  show(done: number, total: number, figures: string): void {
    if (!this.#stream.isTTY) return;
    const now = performance.now();
    if (now - this.#lastDrawn < EVERY_MS && done < total) return;
    this.#lastDrawn = now;
    this.#visible = true;
    const share = total > 0 ? Math.min(1, done / total) : 1;
    const full = Math.round(share * WIDTH);
    const bar = "█".repeat(full) + "░".repeat(WIDTH - full);
    this.#stream.write(`\r\x1b[2K${this.#what} ${styleFor(this.#stream).accent(bar)} ${figures}`);
  }

  /** Takes the bar away. */
  clear(): void {
    if (this.#visible) this.#stream.write("\r\x1b[2K");
    this.#visible = false;
  }
}
