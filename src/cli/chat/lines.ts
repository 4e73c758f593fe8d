// Lines from the keyboard or a pipe, one at a time. Lines that come while an answer is being
// written wait; a line that ends in a backslash goes on in the next.

import { createInterface, type Interface } from "node:readline";
import { readHistory, writeHistory } from "./history.js";

export class LineReader {
  readonly #lines: string[] = [];
  readonly #interface: Interface;
  readonly #interactive: boolean;
  #waiting: ((line: string | null) => void) | null = null;
  #closed = false;
  #typed: string[];

  /** @param onInterrupt Ctrl-C, wherever it was pressed */
  constructor(input: NodeJS.ReadStream, output: NodeJS.WriteStream, onInterrupt: () => void) {
    this.#interactive = input.isTTY === true && output.isTTY === true;
    this.#typed = this.#interactive ? readHistory() : [];
    this.#interface = createInterface({
      input,
      terminal: this.#interactive,
      ...(this.#interactive ? { output, history: [...this.#typed], historySize: 500, removeHistoryDuplicates: true } : {}),
    });
    this.#interface.on("line", (line) => this.#take(line));
    this.#interface.on("history", (lines: string[]) => {
      this.#typed = [...lines];
    });
    this.#interface.on("SIGINT", onInterrupt);
    this.#interface.on("close", () => {
      this.#closed = true;
      this.#waiting?.(null);
      this.#waiting = null;
    });
  }

  get interactive(): boolean {
    return this.#interactive;
  }

  /** The next message, or `null` at the end of the input. */
  async next(prompt: string): Promise<string | null> {
    const parts: string[] = [];
    for (;;) {
      const line = await this.#nextLine(parts.length === 0 ? prompt : "… ");
      if (line === null) return parts.length === 0 ? null : parts.join("\n");
      if (!line.endsWith("\\")) return [...parts, line].join("\n");
      parts.push(line.slice(0, -1));
    }
  }

  /** Forgets lines that wait. @returns whether more can come */
  discard(): "open" | "ended" {
    this.#lines.length = 0;
    return this.#closed ? "ended" : "open";
  }

  close(): void {
    this.#interface.close();
    if (this.#interactive) writeHistory(this.#typed);
  }

  async #nextLine(prompt: string): Promise<string | null> {
    const ready = this.#lines.shift();
    if (ready !== undefined) return ready;
    if (this.#closed) return null;
    if (this.#interactive) {
      this.#interface.setPrompt(prompt);
      this.#interface.prompt();
    }
    return new Promise((resolve) => {
      this.#waiting = resolve;
    });
  }

  #take(line: string): void {
    if (!this.#waiting) this.#lines.push(line);
    else {
      const resolve = this.#waiting;
      this.#waiting = null;
      resolve(line);
    }
  }
}
