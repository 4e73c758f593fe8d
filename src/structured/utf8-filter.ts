// Keeps what is generated valid UTF-8. The compiler knows how many bytes a character has, and
// not which of them make one (overlong forms, surrogates, beyond the last plane): tokens that
// cannot be a part of valid text are never allowed, and within a character those that would
// spoil it are not. The line separators U+2028 and U+2029 count as spoilt, because `.` in a
// pattern must not match them.

import type { TokenBytes } from "./messages.js";

const isContinuation = (byte: number): boolean => (byte & 0xc0) === 0x80;

/**
 * Bytes of a character that is not complete behind these, `null` where they are not valid.
 *
 * @param bytes what follows complete characters
 */
function unfinishedCharacter(bytes: readonly number[]): number[] | null {
  for (let at = 0; at < bytes.length; ) {
    const length = lengthBy(bytes[at]!);
    if (length === 0) return null;
    const character = bytes.slice(at, at + length);
    if (!character.slice(1).every(isContinuation) || isSpoilt(character)) return null;
    if (character.length < length) return character;
    at += length;
  }
  return [];
}

function lengthBy(lead: number): number {
  if (lead < 0x80) return 1;
  if (lead >= 0xc2 && lead <= 0xdf) return 2;
  if (lead >= 0xe0 && lead <= 0xef) return 3;
  return lead >= 0xf0 && lead <= 0xf4 ? 4 : 0;
}

/** Whether a character that begins like this is none. */
function isSpoilt([lead, second, third]: readonly number[]): boolean {
  if (second === undefined) return false;
  if (lead === 0xe0) return second < 0xa0;
  if (lead === 0xed) return second > 0x9f;
  if (lead === 0xf0) return second < 0x90;
  if (lead === 0xf4) return second > 0x8f;
  return lead === 0xe2 && second === 0x80 && (third === 0xa8 || third === 0xa9);
}

/** Whether a token can be a part of valid text. */
export function canBeValid(bytes: Uint8Array): boolean {
  const begin = leadingContinuations(bytes);
  return begin <= 3 && unfinishedCharacter([...bytes.subarray(begin)]) !== null;
}

function leadingContinuations(bytes: Uint8Array): number {
  const begin = bytes.findIndex((byte) => !isContinuation(byte));
  return begin < 0 ? bytes.length : begin;
}

export class Utf8Filter {
  readonly #tokens: TokenBytes;
  /** Tokens that go on with a character. */
  readonly #continuing: readonly number[];

  constructor(tokens: TokenBytes) {
    this.#tokens = tokens;
    const { bytes, offsets } = tokens;
    const ids = Array.from({ length: offsets.length - 1 }, (_, id) => id);
    this.#continuing = ids.filter((id) => offsets[id]! < offsets[id + 1]! && isContinuation(bytes[offsets[id]!]!));
  }

  /** The unfinished character when this token has followed `unfinished`. */
  after(unfinished: readonly number[], id: number): number[] {
    const { bytes, offsets } = this.#tokens;
    return unfinishedCharacter([...unfinished, ...bytes.subarray(offsets[id]!, offsets[id + 1]!)]) ?? [];
  }

  /** Takes out of a mask what would spoil the unfinished character. */
  apply(mask: Int32Array, unfinished: readonly number[]): void {
    if (unfinished.length === 0) return;
    const { bytes, offsets } = this.#tokens;
    for (const id of this.#continuing)
      if (unfinishedCharacter([...unfinished, ...bytes.subarray(offsets[id]!, offsets[id + 1]!)]) === null)
        mask[id >>> 5]! &= ~(1 << (id & 31));
  }
}
