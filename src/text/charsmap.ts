// SentencePiece's compiled normalisation rules (nmt_nfkc and the like): a double-array trie
// over UTF-8 bytes (Darts-clone's layout) whose leaves point into a block of replacement
// strings. At each place of a text the longest rule wins.

import { TokenizerError } from "./errors.js";

export class Charsmap {
  readonly #units: Uint32Array;
  readonly #replacements: Uint8Array;

  /** @param blob u32 size of the trie, the trie, then replacements that each end with a zero byte */
  constructor(blob: Uint8Array) {
    const view = new DataView(blob.buffer, blob.byteOffset, blob.byteLength);
    const trieBytes = blob.byteLength >= 4 ? view.getUint32(0, true) : 0;
    if (trieBytes < 4 || trieBytes % 4 !== 0 || trieBytes > blob.byteLength - 5)
      throw new TokenizerError("the tokenizer.model has normalisation rules (precompiled_charsmap) that are damaged");
    this.#units = new Uint32Array(trieBytes / 4);
    for (let i = 0; i < this.#units.length; i++) this.#units[i] = view.getUint32(4 + i * 4, true);
    this.#replacements = blob.subarray(4 + trieBytes);
    if (this.#replacements.at(-1) !== 0)
      throw new TokenizerError("the tokenizer.model's normalisation rules end without a zero byte");
  }

  /**
   * The longest rule that matches at a place.
   *
   * @returns how many bytes it replaces, and by what; `null` when none matches
   */
  match(text: Uint8Array, at: number): { length: number; replacement: Uint8Array } | null {
    const units = this.#units;
    let length = 0;
    let value = -1;
    let node = offset(units[0]!);
    for (let i = at; i < text.length; i++) {
      node ^= text[i]!;
      const unit = units[node];
      if (unit === undefined || label(unit) !== text[i]) break;
      node ^= offset(unit);
      if (((unit >>> 8) & 1) === 0) continue;
      const leaf = units[node];
      if (leaf === undefined) break;
      length = i + 1 - at;
      value = leaf & 0x7fffffff;
    }
    if (value < 0 || value >= this.#replacements.length) return null;
    return { length, replacement: this.#replacements.subarray(value, this.#replacements.indexOf(0, value)) };
  }
}

function offset(unit: number): number {
  return (unit >>> 10) << ((unit & 0x200) >>> 6);
}

/** A byte; leaves carry bit 31, so that they equal no byte. */
function label(unit: number): number {
  return (unit & 0x800000ff) >>> 0;
}
