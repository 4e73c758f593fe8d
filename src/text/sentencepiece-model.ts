// Reads a SentencePiece model file (sentencepiece_model.proto) into plain data, checked:
// what this program does not do is refused here, by name.

import { TokenizerError } from "./errors.js";
import { type Field, floatOfBits, readFields } from "./protobuf.js";

export type PieceType = "normal" | "unknown" | "control" | "user" | "unused" | "byte";

export interface SentencePiece {
  readonly text: string;
  readonly score: number;
  readonly type: PieceType;
}

export interface SentencePieceModel {
  readonly kind: "unigram" | "bpe";
  /** Index = id. */
  readonly pieces: readonly SentencePiece[];
  readonly byteFallback: boolean;
  readonly unkId: number;
  /** −1: none. */
  readonly bosId: number;
  readonly eosId: number;
  /** Compiled replacement rules (see charsmap.ts); empty for `identity`. */
  readonly charsmap: Uint8Array;
  readonly addDummyPrefix: boolean;
  readonly removeExtraWhitespaces: boolean;
  readonly escapeWhitespaces: boolean;
  readonly whitespaceAsSuffix: boolean;
}

// Field numbers of sentencepiece_model.proto.
const MODEL = { pieces: 1, trainer: 2, normalizer: 3, denormalizer: 5 };
const PIECE = { text: 1, score: 2, type: 3 };
const TRAINER = { modelType: 3, whitespaceAsSuffix: 24, byteFallback: 35, unkId: 40, bosId: 41, eosId: 42 };
const NORMALIZER = { charsmap: 2, addDummyPrefix: 3, removeExtraWhitespaces: 4, escapeWhitespaces: 5 };

const PIECE_TYPES: readonly (PieceType | undefined)[] = [undefined, "normal", "unknown", "control", "user", "unused", "byte"];
const MODEL_KINDS = [undefined, "unigram", "bpe", "word", "char"];
const MOST_PIECES = 4_000_000;

/** @throws {TokenizerError} when the file is damaged, or is a word or character model */
export function readSentencePieceModel(file: Uint8Array): SentencePieceModel {
  const pieces: SentencePiece[] = [];
  let trainer = new Uint8Array(0);
  let normalizer = new Uint8Array(0);
  for (const field of readFields(file)) {
    if (field.number === MODEL.pieces) {
      if (pieces.length === MOST_PIECES) throw refuse(`more than ${MOST_PIECES} pieces`);
      pieces.push(readPiece(expectBytes(field), pieces.length));
    } else if (field.number === MODEL.trainer) trainer = new Uint8Array(expectBytes(field));
    else if (field.number === MODEL.normalizer) normalizer = new Uint8Array(expectBytes(field));
    else if (field.number === MODEL.denormalizer && readNormalizer(expectBytes(field)).charsmap.length > 0)
      throw refuse("rules to apply after decoding (denormalizer_spec), which this program does not have");
  }
  const model = { pieces, ...readTrainer(trainer), ...readNormalizer(normalizer) };
  check(model);
  return model;
}

function readPiece(message: Uint8Array, id: number): SentencePiece {
  let text = "";
  let score = 0;
  let type: PieceType = "normal";
  for (const field of readFields(message)) {
    if (field.number === PIECE.text) text = decodeUtf8(expectBytes(field), `piece ${id}`);
    else if (field.number === PIECE.score) score = floatOfBits(expectType(field, "fixed32"));
    else if (field.number === PIECE.type) {
      const known = PIECE_TYPES[expectType(field, "varint")];
      if (!known) throw refuse(`piece ${id} of unknown type ${String(field.value)}`);
      type = known;
    }
  }
  if (text === "") throw refuse(`piece ${id} without a text`);
  if (!Number.isFinite(score)) throw refuse(`piece ${id} with the score ${score}`);
  return { text, score, type };
}

function readTrainer(message: Uint8Array) {
  const trainer = {
    kind: "unigram" as "unigram" | "bpe",
    byteFallback: false,
    whitespaceAsSuffix: false,
    unkId: 0,
    bosId: 1,
    eosId: 2,
  };
  for (const field of readFields(message)) {
    if (field.number === TRAINER.modelType) {
      const kind = MODEL_KINDS[expectType(field, "varint")];
      if (kind !== "unigram" && kind !== "bpe")
        throw refuse(`a model of type ${kind ?? String(field.value)}; this program reads unigram and BPE models`);
      trainer.kind = kind;
    } else if (field.number === TRAINER.byteFallback) trainer.byteFallback = expectType(field, "varint") !== 0;
    else if (field.number === TRAINER.whitespaceAsSuffix) trainer.whitespaceAsSuffix = expectType(field, "varint") !== 0;
    else if (field.number === TRAINER.unkId) trainer.unkId = signed(field);
    else if (field.number === TRAINER.bosId) trainer.bosId = signed(field);
    else if (field.number === TRAINER.eosId) trainer.eosId = signed(field);
  }
  return trainer;
}

function readNormalizer(message: Uint8Array) {
  const normalizer = {
    charsmap: new Uint8Array(0),
    addDummyPrefix: true,
    removeExtraWhitespaces: true,
    escapeWhitespaces: true,
  };
  for (const field of readFields(message)) {
    if (field.number === NORMALIZER.charsmap) normalizer.charsmap = new Uint8Array(expectBytes(field));
    else if (field.number === NORMALIZER.addDummyPrefix) normalizer.addDummyPrefix = expectType(field, "varint") !== 0;
    else if (field.number === NORMALIZER.removeExtraWhitespaces)
      normalizer.removeExtraWhitespaces = expectType(field, "varint") !== 0;
    else if (field.number === NORMALIZER.escapeWhitespaces) normalizer.escapeWhitespaces = expectType(field, "varint") !== 0;
  }
  return normalizer;
}

function check(model: SentencePieceModel): void {
  if (model.pieces.length === 0) throw refuse("no pieces");
  if (model.pieces[model.unkId]?.type !== "unknown") throw refuse(`no unknown piece at id ${model.unkId}`);
  const seen = new Map<string, number>();
  for (const [id, piece] of model.pieces.entries()) {
    const other = seen.get(piece.text);
    if (other !== undefined) throw refuse(`the piece ${JSON.stringify(piece.text)} twice, as ${other} and ${id}`);
    seen.set(piece.text, id);
  }
  if (!model.byteFallback) return;
  const bytes = model.pieces.filter((piece) => piece.type === "byte").length;
  if (bytes !== 256) throw refuse(`byte fallback with ${bytes} byte pieces instead of 256`);
}

function expectBytes(field: Field): Uint8Array {
  if (field.type !== "bytes") throw refuse(`field ${field.number} that is not a string`);
  return field.value;
}

function expectType(field: Field, type: "varint" | "fixed32"): number {
  if (field.type !== type) throw refuse(`field ${field.number} that is not a number`);
  return field.value as number;
}

/** Ids are int32; −1 (none) is written as a varint of 64 ones. */
function signed(field: Field): number {
  const value = expectType(field, "varint");
  return value >= 2 ** 63 ? -1 : value;
}

function decodeUtf8(bytes: Uint8Array, what: string): string {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    throw refuse(`${what} that is not UTF-8`);
  }
}

function refuse(what: string): TokenizerError {
  return new TokenizerError(`the tokenizer.model has ${what}`);
}
