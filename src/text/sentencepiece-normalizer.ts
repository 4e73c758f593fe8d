// What SentencePiece does to a text before it cuts it: rules of the charsmap, runs of spaces
// folded where the model says so, spaces written as ▁, and one ▁ in front.

import { Charsmap } from "./charsmap.js";
import type { SentencePieceModel } from "./sentencepiece-model.js";
import type { TextPlace } from "./vocabulary.js";

export const SPACE_MARK = "\u2581";

const encoder = new TextEncoder();
const decoder = new TextDecoder("utf-8", { ignoreBOM: true });

export class SentencePieceNormalizer {
  readonly #model: SentencePieceModel;
  readonly #charsmap: Charsmap | null;
  readonly #keep: RegExp | null;
  readonly #mark: string;

  /** @param keep matches user-defined symbols, which no rule changes */
  constructor(model: SentencePieceModel, keep: RegExp | null) {
    this.#model = model;
    this.#charsmap = model.charsmap.length > 0 ? new Charsmap(model.charsmap) : null;
    this.#keep = keep;
    this.#mark = model.escapeWhitespaces ? SPACE_MARK : " ";
  }

  /** @param place `first` puts the prefix in front, `last` drops trailing spaces; both only where the model says so */
  normalize(text: string, place: TextPlace): string {
    const { addDummyPrefix, removeExtraWhitespaces, whitespaceAsSuffix } = this.#model;
    let normal = this.#replaceByRules(text);
    if (removeExtraWhitespaces) {
      normal = normal.replace(/ {2,}/g, " ");
      if (place.first && normal.startsWith(" ")) normal = normal.slice(1);
      if (place.last) normal = withoutTrailing(normal.replaceAll(" ", this.#mark), this.#mark);
      if (normal === "" && text !== "") return "";
    }
    if (addDummyPrefix && !whitespaceAsSuffix && place.first) normal = ` ${normal}`;
    if (addDummyPrefix && whitespaceAsSuffix && place.last) normal = `${normal} `;
    return normal.replaceAll(" ", this.#mark);
  }

  #replaceByRules(text: string): string {
    if (!this.#charsmap) return text;
    if (!this.#keep) return this.#applyCharsmap(text);
    let out = "";
    let at = 0;
    for (const match of text.matchAll(this.#keep)) {
      out += this.#applyCharsmap(text.slice(at, match.index)) + match[0];
      at = match.index + match[0].length;
    }
    return out + this.#applyCharsmap(text.slice(at));
  }

  #applyCharsmap(text: string): string {
    const charsmap = this.#charsmap!;
    const bytes = encoder.encode(text);
    const parts: string[] = [];
    let plain = 0;
    for (let at = 0; at < bytes.length; ) {
      const rule = charsmap.match(bytes, at);
      if (!rule) {
        at += utf8Length(bytes[at]!);
        continue;
      }
      if (plain < at) parts.push(decoder.decode(bytes.subarray(plain, at)));
      parts.push(decoder.decode(rule.replacement));
      at += rule.length;
      plain = at;
    }
    parts.push(decoder.decode(bytes.subarray(plain)));
    return parts.join("");
  }
}

/** SentencePiece looks for its mark here, so a ▁ that the text itself ends in goes as well. */
function withoutTrailing(text: string, mark: string): string {
  let end = text.length;
  while (text.endsWith(mark, end) && end > 0) end -= mark.length;
  return text.slice(0, end);
}

function utf8Length(lead: number): number {
  return lead < 0x80 ? 1 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
}
