// What a tokenizer file must say. The two kinds of files (tokenizer.json, tokenizer.model)
// become this; special tokens, decoding and streaming are the same for both and lie in
// tokenizer.ts.

/** Where a piece of ordinary text stands in the whole. */
export interface TextPlace {
  /** The whole text begins here. */
  readonly first: boolean;
  /** The whole text ends here. */
  readonly last: boolean;
}

export interface Vocabulary {
  /** Ids are 0 … size − 1. */
  readonly size: number;
  /** Spelling → id of the tokens that user text never becomes unless asked. */
  readonly special: ReadonlyMap<string, number>;
  /** Special tokens that swallow the white space beside them, as tokenizer.json may ask. */
  readonly stripping: ReadonlyMap<number, { readonly left: boolean; readonly right: boolean }>;
  readonly bosId: number | null;
  readonly eosIds: readonly number[];
  /** A prompt begins with BOS unless said otherwise. */
  readonly addsBos: boolean;
  /** A mark is put before a text that begins with a special token, too, as SentencePiece does. */
  readonly marksBeforeSpecial: boolean;
  /** How many spaces at the beginning of a text decoding takes away: the one that encoding put there, none, or all. */
  readonly leadingSpacesDropped: number;
  /** Ids of text that holds no special token (spellings of special tokens in it are plain characters). */
  encodeOrdinary(text: string, place: TextPlace): number[];
  /** The spelling, for people; `undefined` for an id that no token has. */
  spelling(id: number): string | undefined;
  /** UTF-8 bytes that a token stands for, perhaps a part of a character; empty for an id that no token has. */
  bytes(id: number): Uint8Array;
}
