// A vocabulary as the grammar worker gets it: what each token adds to the text, in bytes,
// whichever way its tokenizer spells it (byte-level characters, byte pieces, space marks).

import type { TokenBytes } from "./messages.js";

/** What is needed of a tokenizer. */
export interface ConstrainedVocabulary {
  readonly vocabSize: number;
  /** UTF-8 bytes that a token stands for, perhaps a part of a character. */
  bytes(id: number): Uint8Array;
  isSpecial(id: number): boolean;
}

/** @param stopIds end an answer; special tokens, and those without bytes, are never allowed */
export function tokenBytes(vocabulary: ConstrainedVocabulary, stopIds: readonly number[]): TokenBytes {
  const size = vocabulary.vocabSize;
  const stops = new Set(stopIds.filter((id) => id < size));
  const pieces = Array.from({ length: size }, (_, id) =>
    vocabulary.isSpecial(id) || stops.has(id) ? new Uint8Array(0) : vocabulary.bytes(id),
  );
  const offsets = new Uint32Array(size + 1);
  for (const [id, piece] of pieces.entries()) offsets[id + 1] = offsets[id]! + piece.length;
  const bytes = new Uint8Array(offsets[size]!);
  for (const [id, piece] of pieces.entries()) bytes.set(piece, offsets[id]!);
  return { bytes, offsets, stopIds: [...stops] };
}
