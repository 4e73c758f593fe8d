// Watches an answer for the beginning of a call, token by token, to say what of the call has
// come already: a token may hold the end of the mark and the beginning of what follows.

import type { ToolFormat } from "./tool-format.js";

/** Ids to text as they come. */
interface TextSource {
  push(id: number): string;
}

/** Where the answer itself is the call: how that begins. */
const BARE_CALL = /^\s*\{\s*"name"\s*:\s*"/;
const BARE_BEGINNING = '{"name": "';

export class CallWatch {
  readonly #stream: TextSource;
  readonly #marks: readonly string[];
  readonly #longest: number;
  #bare: boolean;
  #tail = "";

  /** @param stream shows the format's marks */
  constructor(format: ToolFormat, stream: TextSource) {
    this.#stream = stream;
    this.#marks = [...(format.begin === "" ? [] : [format.begin]), ...format.otherBegins];
    this.#longest = Math.max(1, ...this.#marks.map((mark) => mark.length));
    this.#bare = format.begin === "";
  }

  /** @returns what of the call, from behind its mark, this token and those before it say; `null` while none begins */
  push(id: number): string | null {
    this.#tail += this.#stream.push(id);
    for (const mark of this.#marks) {
      const at = this.#tail.indexOf(mark);
      if (at >= 0) return this.#begun(this.#tail.slice(at + mark.length));
    }
    if (this.#bare) return this.#watchBare();
    this.#tail = this.#tail.slice(-this.#longest);
    return null;
  }

  #watchBare(): string | null {
    const begun = BARE_CALL.exec(this.#tail);
    if (begun) return this.#begun(BARE_BEGINNING + this.#tail.slice(begun[0].length));
    const squeezed = this.#tail.replace(/\s/g, "");
    this.#bare = BARE_BEGINNING.replace(" ", "").startsWith(squeezed);
    return null;
  }

  #begun(said: string): string {
    this.#tail = "";
    this.#bare = false;
    return said;
  }
}
