// A vocabulary as the grammar worker gets it: what each token adds to the text, in bytes,
// whichever way its tokenizer spells it (byte-level characters, byte pieces, space marks).

import { MARKER_BEGIN, MOST_MARKERS, markerOf, NEVER } from "./expression.js";
import type { TokenBytes } from "./messages.js";
import { canBeValid } from "./utf8-filter.js";

/** Bytes that mean something in grammars. */
const RESERVED = [MARKER_BEGIN, NEVER].map((character) => character.charCodeAt(0));

/** What is needed of a tokenizer. */
export interface ConstrainedVocabulary {
  readonly vocabSize: number;
  /** UTF-8 bytes that a token stands for, perhaps a part of a character. */
  bytes(id: number): Uint8Array;
  isSpecial(id: number): boolean;
}

/** Special tokens, and what stands for each of them in grammars. */
export type Markers = ReadonlyMap<number, string>;

/** Every special token that does not end an answer. */
export function specialMarkers(vocabulary: ConstrainedVocabulary, stopIds: readonly number[]): Markers {
  const ids = Array.from({ length: vocabulary.vocabSize }, (_, id) => id).filter(
    (id) => vocabulary.isSpecial(id) && !stopIds.includes(id),
  );
  return new Map(ids.slice(0, MOST_MARKERS).map((id, index) => [id, markerOf(index)]));
}

/**
 * @param stopIds end an answer
 * @param markers special tokens that grammars may name; all others, and those without bytes, are never allowed
 */
export function tokenBytes(vocabulary: ConstrainedVocabulary, stopIds: readonly number[], markers: Markers): TokenBytes {
  const size = vocabulary.vocabSize;
  const stops = new Set(stopIds.filter((id) => id < size));
  const encoder = new TextEncoder();
  const pieces = Array.from({ length: size }, (_, id) => {
    if (stops.has(id)) return new Uint8Array(0);
    if (vocabulary.isSpecial(id)) return encoder.encode(markers.get(id) ?? "");
    const bytes = vocabulary.bytes(id);
    return RESERVED.some((byte) => bytes.includes(byte)) || !canBeValid(bytes) ? new Uint8Array(0) : bytes;
  });
  const offsets = new Uint32Array(size + 1);
  for (const [id, piece] of pieces.entries()) offsets[id + 1] = offsets[id]! + piece.length;
  const bytes = new Uint8Array(offsets[size]!);
  for (const [id, piece] of pieces.entries()) bytes.set(piece, offsets[id]!);
  return { bytes, offsets, stopIds: [...stops] };
}
