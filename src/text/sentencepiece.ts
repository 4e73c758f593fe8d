// A tokenizer.model: SentencePiece's BPE or unigram segmentation, character by character the
// same as the C++ library's, but for one thing that this program does on purpose: control
// symbols and chat marks are never produced from ordinary text.

import { mergePairs } from "./bpe.js";
import { byteOfPiece } from "./byte-pieces.js";
import { TokenizerError } from "./errors.js";
import { PairTable } from "./pair-table.js";
import { readSentencePieceModel, type SentencePieceModel } from "./sentencepiece-model.js";
import { SentencePieceNormalizer, SPACE_MARK } from "./sentencepiece-normalizer.js";
import { looksLikeMarkup } from "./special-spelling.js";
import { spellingPattern } from "./tokenizer.js";
import type { TokenizerConfig } from "./tokenizer-config.js";
import { UnigramModel } from "./unigram.js";
import type { TextPlace, Vocabulary } from "./vocabulary.js";

const encoder = new TextEncoder();
const NO_BYTES = new Uint8Array(0);
/** What SentencePiece shows for the unknown token. */
const UNKNOWN_SURFACE = " \u2047 ";
/** Symbol of a character that nothing in the vocabulary covers; below every frozen symbol. */
const UNKNOWN = -0x7fffffff;

/** Reads a tokenizer.model. @throws {TokenizerError} */
export function sentencePieceVocabulary(file: Uint8Array, config: TokenizerConfig): Vocabulary {
  const model = readSentencePieceModel(file);
  const special = specialPieces(model, config);
  const keptWhole = new Map<string, number>();
  for (const [id, piece] of model.pieces.entries())
    if (piece.type === "user" && !special.has(piece.text)) keptWhole.set(piece.text, id);
  const keep = spellingPattern(keptWhole.keys());
  const normalizer = new SentencePieceNormalizer(model, keep);
  const segment = model.kind === "bpe" ? bpeSegmenter(model, special, keptWhole, keep) : unigramSegmenter(model, special);
  const bytes = model.pieces.map((piece) => pieceBytes(piece.text, piece.type, model.escapeWhitespaces));
  for (const [text, id] of config.added) {
    if (id < model.pieces.length) continue;
    bytes[id] = encoder.encode(text);
  }
  return {
    size: bytes.length,
    special,
    stripping: new Map(),
    bosId: config.bos === null ? present(model.bosId, model) : (special.get(config.bos) ?? present(model.bosId, model)),
    eosIds: eosIds(model, special, config),
    addsBos: config.addBos ?? model.bosId >= 0,
    marksBeforeSpecial: true,
    leadingSpacesDropped: model.removeExtraWhitespaces
      ? Number.POSITIVE_INFINITY
      : model.addDummyPrefix && !model.whitespaceAsSuffix
        ? 1
        : 0,
    encodeOrdinary(text: string, place: TextPlace): number[] {
      const normal = normalizer.normalize(text, place);
      return normal === "" ? [] : segment(normal);
    },
    spelling: (id) => model.pieces[id]?.text ?? (bytes[id] ? new TextDecoder().decode(bytes[id]) : undefined),
    bytes: (id) => bytes[id] ?? NO_BYTES,
  };
}

/** Control symbols, chat marks among the user-defined ones, and tokens that tokenizer_config.json adds behind the pieces. */
function specialPieces(model: SentencePieceModel, config: TokenizerConfig): Map<string, number> {
  const special = new Map<string, number>();
  for (const [id, { text, type }] of model.pieces.entries()) {
    const named = config.special.has(text) || config.bos === text || config.eos === text;
    if (type === "control" || (type !== "byte" && (named || (type === "user" && looksLikeMarkup(text))))) special.set(text, id);
  }
  for (const [text, id] of config.added) {
    const piece = model.pieces[id];
    if (piece && piece.text !== text)
      throw new TokenizerError(`added token ${JSON.stringify(text)} and piece ${JSON.stringify(piece.text)} both have id ${id}`);
    if (!piece) special.set(text, id);
  }
  return special;
}

function present(id: number, model: SentencePieceModel): number | null {
  return id >= 0 && id < model.pieces.length ? id : null;
}

function eosIds(model: SentencePieceModel, special: ReadonlyMap<string, number>, config: TokenizerConfig): number[] {
  const named = config.eos === null ? undefined : special.get(config.eos);
  const id = named ?? present(model.eosId, model);
  return id === null ? [] : [id];
}

function pieceBytes(text: string, type: string, escaped: boolean): Uint8Array {
  if (type === "byte") {
    const byte = byteOfPiece(text);
    if (byte < 0) throw new TokenizerError(`the tokenizer.model has a byte piece spelled ${JSON.stringify(text)}`);
    return Uint8Array.of(byte);
  }
  if (type === "unknown") return encoder.encode(UNKNOWN_SURFACE);
  return encoder.encode(escaped && type !== "control" && type !== "user" ? text.replaceAll(SPACE_MARK, " ") : text);
}

/** Ids of a character that no piece covers: its bytes, or the unknown id, once for a run of such characters. */
function unknownCharacters(model: SentencePieceModel): (ids: number[], text: string) => void {
  if (!model.byteFallback)
    return (ids) => {
      if (ids.at(-1) !== model.unkId) ids.push(model.unkId);
    };
  const idOfByte = new Int32Array(256);
  for (const [id, piece] of model.pieces.entries()) if (piece.type === "byte") idOfByte[byteOfPiece(piece.text)] = id;
  return (ids, text) => {
    for (const byte of encoder.encode(text)) ids.push(idOfByte[byte]!);
  };
}

function unigramSegmenter(model: SentencePieceModel, special: ReadonlyMap<string, number>): (text: string) => number[] {
  const addUnknown = unknownCharacters(model);
  const normal = model.pieces.filter(({ type }) => type === "normal");
  const highest = normal.reduce((most, piece) => Math.max(most, piece.score), Number.NEGATIVE_INFINITY);
  const pieces = model.pieces.flatMap(({ text, type, score }, id) => {
    if (special.has(text) || (type !== "normal" && type !== "user")) return [];
    // A user-defined symbol beats any way to cut it: SentencePiece gives it the best score of every one of its bytes.
    return [{ text, id, score: type === "user" ? encoder.encode(text).length * highest - 0.1 : score }];
  });
  const unigram = new UnigramModel(pieces);
  return (text) => {
    const ids: number[] = [];
    for (const { id, start, end } of unigram.segment(text)) {
      if (id >= 0) ids.push(id);
      else addUnknown(ids, text.slice(start, end));
    }
    return ids;
  };
}

function bpeSegmenter(
  model: SentencePieceModel,
  special: ReadonlyMap<string, number>,
  keptWhole: ReadonlyMap<string, number>,
  keep: RegExp | null,
): (text: string) => number[] {
  const symbolOf = new Map<string, number>();
  const mergeable: { text: string; id: number; score: number }[] = [];
  for (const [id, { text, type, score }] of model.pieces.entries()) {
    if (special.has(text) || type === "byte" || type === "unknown") continue;
    symbolOf.set(text, id);
    mergeable.push({ text, id, score });
  }
  // A character may occur in pieces without being one itself: it merges, but cannot stand alone.
  let virtual = model.pieces.length;
  for (const { text } of mergeable)
    for (const character of text) if (!symbolOf.has(character)) symbolOf.set(character, virtual++);

  const merges = new PairTable(mergeable.length * 2);
  for (const { text, id, score } of mergeable)
    for (let cut = 1; cut < text.length; cut++) {
      const left = symbolOf.get(text.slice(0, cut));
      const right = symbolOf.get(text.slice(cut));
      if (left !== undefined && right !== undefined) merges.add(left, right, id, -score);
    }

  const unused = new Set(model.pieces.flatMap(({ type }, id) => (type === "unused" ? [id] : [])));
  const addUnknown = unknownCharacters(model);
  const characterOf = [...symbolOf].reduce(
    (map, [text, symbol]) => (symbol >= model.pieces.length ? map.set(symbol, text) : map),
    new Map<number, string>(),
  );

  return (text) => {
    const symbols = new Int32Array(text.length);
    const unknown: string[] = [];
    let count = 0;
    const addText = (part: string): void => {
      for (const character of part) {
        const symbol = symbolOf.get(character);
        if (symbol === undefined) unknown.push(character);
        symbols[count++] = symbol ?? UNKNOWN;
      }
    };
    let at = 0;
    if (keep)
      for (const match of text.matchAll(keep)) {
        addText(text.slice(at, match.index));
        symbols[count++] = -1 - keptWhole.get(match[0])!;
        at = match.index + match[0].length;
      }
    addText(text.slice(at));

    // A piece marked unused may be formed on the way; what is left of it falls apart again.
    const madeOf = new Map<number, readonly [number, number]>();
    count = mergePairs(
      symbols,
      count,
      merges,
      unused.size === 0
        ? undefined
        : (left, right, merged) => {
            if (unused.has(merged)) madeOf.set(merged, [left, right]);
          },
    );

    const ids: number[] = [];
    let unknownSeen = 0;
    const emit = (symbol: number): void => {
      const parts = madeOf.get(symbol);
      if (parts) {
        emit(parts[0]);
        emit(parts[1]);
      } else if (symbol === UNKNOWN) addUnknown(ids, unknown[unknownSeen++]!);
      else if (symbol < 0) ids.push(-1 - symbol);
      else if (symbol < model.pieces.length) ids.push(symbol);
      else addUnknown(ids, characterOf.get(symbol)!);
    };
    for (let i = 0; i < count; i++) emit(symbols[i]!);
    return ids;
  };
}
