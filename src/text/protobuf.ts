// Just enough of Protocol Buffers' wire format to read a SentencePiece model: a message is a
// list of (field number, wire type, value). Nothing read from a file is believed: every
// length is checked against what is left.

import { TokenizerError } from "./errors.js";

/** Varints as numbers (exact to 2⁵³, larger ones saturate), fixed32 as its raw bits, the rest as bytes. */
export type Field =
  | { readonly number: number; readonly type: "varint" | "fixed32"; readonly value: number }
  | { readonly number: number; readonly type: "bytes" | "fixed64"; readonly value: Uint8Array };

/** Fields of one message, in order. @throws {TokenizerError} at the first byte that cannot be right */
export function* readFields(message: Uint8Array): Generator<Field> {
  let at = 0;
  const varint = (): number => {
    let value = 0;
    for (let shift = 0; shift < 70; shift += 7) {
      if (at >= message.length) throw damaged("it ends inside a number");
      const byte = message[at++]!;
      value += (byte & 0x7f) * 2 ** shift;
      if (byte < 0x80) return value;
    }
    throw damaged("a number has more than ten bytes");
  };
  const bytes = (length: number): Uint8Array => {
    if (length > message.length - at) throw damaged(`a field of ${length} bytes has ${message.length - at} left`);
    at += length;
    return message.subarray(at - length, at);
  };
  while (at < message.length) {
    const key = varint();
    const number = Math.floor(key / 8);
    if (number === 0 || number > 0x1fffffff) throw damaged(`field number ${number}`);
    switch (key % 8) {
      case 0:
        yield { number, type: "varint", value: varint() };
        break;
      case 1:
        yield { number, type: "fixed64", value: bytes(8) };
        break;
      case 2:
        yield { number, type: "bytes", value: bytes(varint()) };
        break;
      case 5: {
        const raw = bytes(4);
        yield { number, type: "fixed32", value: new DataView(raw.buffer, raw.byteOffset, 4).getUint32(0, true) };
        break;
      }
      default:
        throw damaged(`wire type ${key % 8}`);
    }
  }
}

/** A fixed32 field's bits as the float they are. */
export function floatOfBits(bits: number): number {
  SCRATCH.setUint32(0, bits);
  return SCRATCH.getFloat32(0);
}

const SCRATCH = new DataView(new ArrayBuffer(4));

function damaged(what: string): TokenizerError {
  return new TokenizerError(`the tokenizer.model is not a SentencePiece model, or is damaged: ${what}`, {
    hint: "Fetch the file again; a Git LFS pointer instead of the file itself is a usual cause.",
  });
}
