// Text to token ids and back. What differs between tokenizer files is behind Vocabulary; what
// lies here is the promise of this program: the spelling of a special token inside a text is
// plain text unless the caller asks otherwise, BOS is added only when asked, and decoding a
// list of ids gives the same text at once or piece by piece.

import { UsageError } from "../errors.js";
import { TextStream } from "./text-stream.js";
import type { Vocabulary } from "./vocabulary.js";

export interface EncodeOptions {
  /** Begin with the BOS token, where the vocabulary has one. Default false. */
  addBos?: boolean;
  /** Spellings of special tokens become those tokens. Default false. */
  parseSpecial?: boolean;
}

export interface DecodeOptions {
  /** Leave special tokens out. Default true. */
  skipSpecial?: boolean;
  /** Special tokens that are shown all the same. */
  shown?: ReadonlySet<number>;
  /** The ids go on from earlier text: a space before them is theirs, and stays. Default false. */
  continuation?: boolean;
}

/** A run of ordinary text, or one special token. */
export type Segment = { readonly text: string } | { readonly special: number };

export class Tokenizer {
  readonly #vocabulary: Vocabulary;
  readonly #specialIds: ReadonlySet<number>;
  readonly #specialPattern: RegExp | null;

  constructor(vocabulary: Vocabulary) {
    this.#vocabulary = vocabulary;
    this.#specialIds = new Set(vocabulary.special.values());
    this.#specialPattern = spellingPattern(vocabulary.special.keys());
  }

  /** Ids are below this; a model may have more rows than its tokenizer has tokens. */
  get vocabSize(): number {
    return this.#vocabulary.size;
  }

  get bosId(): number | null {
    return this.#vocabulary.bosId;
  }

  /** As the tokenizer's files say; generation_config.json may name more. */
  get eosIds(): readonly number[] {
    return this.#vocabulary.eosIds;
  }

  /** A text prompt begins with BOS unless the caller says otherwise. */
  get addsBos(): boolean {
    return this.#vocabulary.addsBos && this.#vocabulary.bosId !== null;
  }

  /** Spelling → id. */
  get specialTokens(): ReadonlyMap<string, number> {
    return this.#vocabulary.special;
  }

  /** Ids of a text: no BOS and no special tokens unless asked. Time grows as n log n with the text. */
  encode(text: string, options: EncodeOptions = {}): number[] {
    const segments = options.parseSpecial ? this.split(text) : [{ text }];
    const ids = this.#encodeSegments(segments, 0, this.#vocabulary.marksBeforeSpecial);
    if (options.addBos && this.bosId !== null) ids.unshift(this.bosId);
    return ids;
  }

  /** Cuts a text at the spellings of special tokens, the longest first where several begin at one place. */
  split(text: string): Segment[] {
    if (!this.#specialPattern) return text === "" ? [] : [{ text }];
    const segments: Segment[] = [];
    let begin = 0;
    let stripLeft = false;
    const addText = (end: number, stripRight: boolean): void => {
      let piece = text.slice(begin, end);
      if (stripLeft) piece = piece.trimStart();
      if (stripRight) piece = piece.trimEnd();
      if (piece !== "") segments.push({ text: piece });
    };
    for (const match of text.matchAll(this.#specialPattern)) {
      const special = this.#vocabulary.special.get(match[0])!;
      const stripping = this.#vocabulary.stripping.get(special);
      addText(match.index, stripping?.left ?? false);
      segments.push({ special });
      begin = match.index + match[0].length;
      stripLeft = stripping?.right ?? false;
    }
    addText(text.length, false);
    return segments;
  }

  /**
   * Ids of a prompt that a template wrote, cut by `split`: begins with one BOS, whether the
   * template put it there or the tokenizer does, or with none where neither does.
   */
  encodeRendered(segments: readonly Segment[]): number[] {
    const first = segments[0];
    const writtenByTemplate = first !== undefined && "special" in first && first.special === this.bosId;
    // Behind a BOS that stands in the text itself, tokenizer.json does not begin a text anew; SentencePiece, which
    // never sees the BOS, does.
    if (writtenByTemplate) return this.#encodeSegments(segments, this.#vocabulary.marksBeforeSpecial ? 1 : 0, false);
    const ids = this.#encodeSegments(segments, 0, false);
    if (this.addsBos) ids.unshift(this.bosId!);
    return ids;
  }

  /**
   * @param begin index of the segment that begins the text
   * @param markBeforeSpecial put SentencePiece's space mark before a special token that begins the text
   */
  #encodeSegments(segments: readonly Segment[], begin: number, markBeforeSpecial: boolean): number[] {
    const ids: number[] = [];
    for (const [index, segment] of segments.entries()) {
      const place = { first: index === begin, last: index === segments.length - 1 };
      if ("special" in segment) {
        if (place.first && markBeforeSpecial) append(ids, this.#vocabulary.encodeOrdinary("", { first: true, last: false }));
        ids.push(segment.special);
      } else if (segment.text !== "") {
        append(ids, this.#vocabulary.encodeOrdinary(segment.text.replace(LONE_SURROGATE, "\ufffd"), place));
      }
    }
    return ids;
  }

  /** Text of ids; bytes that are no UTF-8 become U+FFFD, ids that no token has become nothing. */
  decode(ids: Iterable<number>, options: DecodeOptions = {}): string {
    const stream = this.stream(options);
    const pieces: string[] = [];
    for (const id of ids) pieces.push(stream.push(id));
    pieces.push(stream.end());
    return pieces.join("");
  }

  /** Decodes ids as they come; what it returns adds up to `decode` of them all, and no character is ever cut. */
  stream(options: DecodeOptions = {}): TextStream {
    return new TextStream((id) => this.#bytes(id, (options.skipSpecial ?? true) && !options.shown?.has(id)), {
      dropLeadingSpaces: options.continuation ? 0 : this.#vocabulary.leadingSpacesDropped,
    });
  }

  isSpecial(id: number): boolean {
    return this.#specialIds.has(id);
  }

  /** How the vocabulary writes a token, for people: `▁the`, `<0x0A>`, `<|end|>`. */
  spelling(id: number): string | undefined {
    return this.#vocabulary.spelling(id);
  }

  /** UTF-8 bytes of one token by itself, perhaps a part of a character; a special token's are its spelling. */
  bytes(id: number): Uint8Array {
    return this.#bytes(id, false);
  }

  #bytes(id: number, skipSpecial: boolean): Uint8Array {
    if (!Number.isSafeInteger(id) || id < 0)
      throw new UsageError(`${String(id)} is not a token id`, { expected: "whole numbers from 0" });
    return skipSpecial && this.#specialIds.has(id) ? NO_BYTES : this.#vocabulary.bytes(id);
  }
}

const NO_BYTES = new Uint8Array(0);
const LONE_SURROGATE = /\p{Surrogate}/gu;

/** Matches any of the spellings, the longest first; `null` when there are none. */
export function spellingPattern(spellings: Iterable<string>): RegExp | null {
  const longestFirst = [...spellings].filter((spelling) => spelling !== "").sort((a, b) => b.length - a.length);
  if (longestFirst.length === 0) return null;
  return new RegExp(longestFirst.map((spelling) => spelling.replace(/[\\^$.*+?()[\]{}|/]/g, "\\$&")).join("|"), "gu");
}

/** `push(...more)` fails on long lists: arguments lie on the stack. */
export function append(ids: number[], more: readonly number[]): void {
  for (const id of more) ids.push(id);
}
