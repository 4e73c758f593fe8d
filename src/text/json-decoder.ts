// The `decoder` of a tokenizer.json, read as: which bytes does each token stand for, and is
// the first space of a text taken away. Decoders that cannot be said like that (they join
// words by rules of their own) belong to other families of models and are refused.

import { BYTE_OF_CHARACTER, byteOfPiece } from "./byte-pieces.js";
import { TokenizerError } from "./errors.js";
import { expectObject } from "./tokenizer-config.js";

export interface JsonDecoder {
  /** UTF-8 bytes of a token by its spelling. */
  bytes(spelling: string): Uint8Array;
  readonly stripsFirstSpace: boolean;
}

type TokenBytes = string | Uint8Array;

const encoder = new TextEncoder();

/** @throws {TokenizerError} */
export function jsonDecoder(value: unknown): JsonDecoder {
  const steps: ((token: string) => TokenBytes)[] = [];
  let stripsFirstSpace = false;
  let fused = false;
  const read = (part: unknown, depth: number): void => {
    const settings = expectObject(part, "decoder");
    switch (settings.type) {
      case "Sequence":
        if (!Array.isArray(settings.decoders) || depth > 8) throw unsupported("Sequence without a list");
        for (const inner of settings.decoders) read(inner, depth + 1);
        return;
      case "ByteLevel":
        steps.push(byteLevel);
        return;
      case "ByteFallback":
        steps.push(byteFallback);
        return;
      case "Fuse":
        fused = true;
        return;
      case "Metaspace": {
        const mark = typeof settings.replacement === "string" ? settings.replacement : "\u2581";
        steps.push((token) => token.replaceAll(mark, " "));
        stripsFirstSpace = settings.prepend_scheme !== "never" && settings.add_prefix_space !== false;
        return;
      }
      case "Replace": {
        const pattern = expectObject(settings.pattern, "the pattern of a Replace").String;
        const content = settings.content;
        if (fused || typeof pattern !== "string" || pattern === "" || typeof content !== "string")
          throw unsupported("Replace of this form");
        steps.push((token) => token.replaceAll(pattern, content));
        return;
      }
      case "Strip":
        if (!fused || settings.content !== " " || settings.stop !== 0 || (settings.start !== 0 && settings.start !== 1))
          throw unsupported("Strip of this form");
        stripsFirstSpace = settings.start === 1;
        return;
      default:
        throw unsupported(String(settings.type));
    }
  };
  if (value === null || value === undefined) throw unsupported("none at all");
  read(value, 0);
  return {
    stripsFirstSpace,
    bytes(spelling) {
      let token: TokenBytes = spelling;
      for (const step of steps) if (typeof token === "string") token = step(token);
      return typeof token === "string" ? encoder.encode(token) : token;
    },
  };
}

function byteFallback(token: string): TokenBytes {
  const byte = byteOfPiece(token);
  return byte < 0 ? token : Uint8Array.of(byte);
}

function byteLevel(token: string): TokenBytes {
  const bytes: number[] = [];
  for (const character of token) {
    const byte = BYTE_OF_CHARACTER.get(character);
    // A token that is not written in the alphabet was added as plain text.
    if (byte === undefined) return token;
    bytes.push(byte);
  }
  return Uint8Array.from(bytes);
}

function unsupported(what: string): TokenizerError {
  return new TokenizerError(`the tokenizer.json has a decoder this program does not do: ${what}`, {
    hint: "If the model also has a tokenizer.model, remove tokenizer.json to use that.",
  });
}
