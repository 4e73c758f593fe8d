// Two ways in which vocabularies write bytes: SentencePiece's byte pieces (`<0x0A>`), used for
// characters that no piece covers, and the byte-level alphabet of GPT-2, in which each of the
// 256 bytes is one printable character.

/** Byte of a spelling such as `<0x0A>`, or −1. */
export function byteOfPiece(piece: string): number {
  return /^<0x[0-9A-Fa-f]{2}>$/.test(piece) ? Number.parseInt(piece.slice(3, 5), 16) : -1;
}

/** `<0x0A>` for 10. */
export function pieceOfByte(byte: number): string {
  return `<0x${byte.toString(16).toUpperCase().padStart(2, "0")}>`;
}

/** Byte of each character of the byte-level alphabet: printable ones stand for themselves, the others follow from U+0100. */
export const BYTE_OF_CHARACTER: ReadonlyMap<string, number> = byteAlphabet();

function byteAlphabet(): Map<string, number> {
  const alphabet = new Map<string, number>();
  let shifted = 0x100;
  for (let byte = 0; byte < 256; byte++) {
    const printable = (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
    alphabet.set(String.fromCharCode(printable ? byte : shifted++), byte);
  }
  return alphabet;
}
