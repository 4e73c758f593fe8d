// Ids to text while they are being generated. A token may end in the middle of a character
// (byte pieces, byte-level vocabularies); its bytes wait here until the character is whole.

import { UsageError } from "../errors.js";

export class TextStream {
  readonly #bytesOf: (id: number) => Uint8Array;
  readonly #decoder = new TextDecoder("utf-8", { ignoreBOM: true });
  #spacesToDrop: number;
  #ended = false;

  /** @param bytesOf UTF-8 bytes of a token, empty for one that is not shown */
  constructor(bytesOf: (id: number) => Uint8Array, options: { dropLeadingSpaces: number }) {
    this.#bytesOf = bytesOf;
    this.#spacesToDrop = options.dropLeadingSpaces;
  }

  /** Whole characters that this token completes; `""` while one is still open. */
  push(id: number): string {
    if (this.#ended) throw new UsageError("this text stream has ended");
    return this.#strip(this.#decoder.decode(this.#bytesOf(id), { stream: true }));
  }

  /** What is left: U+FFFD where the last character never became whole. */
  end(): string {
    if (this.#ended) return "";
    this.#ended = true;
    return this.#strip(this.#decoder.decode());
  }

  #strip(text: string): string {
    if (this.#spacesToDrop === 0 || text === "") return text;
    let begin = 0;
    while (begin < this.#spacesToDrop && text[begin] === " ") begin++;
    this.#spacesToDrop = begin === text.length ? this.#spacesToDrop - begin : 0;
    return text.slice(begin);
  }
}
