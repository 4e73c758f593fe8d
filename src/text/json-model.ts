// The `model` of a tokenizer.json: byte-pair encoding by a list of merges, or a unigram
// model. Words come in as the pre-tokenizer cut them; ids of special tokens never come out.

import { mergePairs } from "./bpe.js";
import { pieceOfByte } from "./byte-pieces.js";
import { TokenizerError } from "./errors.js";
import { PairTable } from "./pair-table.js";
import { expectObject, LARGEST_ID } from "./tokenizer-config.js";
import { UnigramModel } from "./unigram.js";

export interface JsonModel {
  /** Appends the ids of one word. */
  encodeWord(word: string, ids: number[]): void;
}

const encoder = new TextEncoder();
const UNKNOWN = -0x7fffffff;
/** Words that come again (` the`) are looked up; longer ones rarely come again. */
const CACHED_WORD_LENGTH = 32;
const CACHED_WORDS = 20_000;

/**
 * @param ids as jsonModelIds() reads them
 * @param specialIds ids that words must not become
 * @throws {TokenizerError}
 */
export function jsonModel(value: unknown, ids: ReadonlyMap<string, number>, specialIds: ReadonlySet<number>): JsonModel {
  const settings = expectObject(value, "model");
  const type = settings.type ?? (settings.merges ? "BPE" : undefined);
  if (type === "BPE") return cached(bpeModel(settings, ids, specialIds));
  if (type === "Unigram") return unigramModel(settings, ids, specialIds);
  throw new TokenizerError(`the tokenizer.json has a model of type ${String(type)}; this program reads BPE and Unigram`);
}

/** Spelling → id as the file has them. */
export function jsonModelIds(value: unknown): Map<string, number> {
  const settings = expectObject(value, "model");
  const ids = new Map<string, number>();
  const add = (text: unknown, id: unknown): void => {
    if (typeof text !== "string" || typeof id !== "number" || !Number.isInteger(id) || id < 0 || id > LARGEST_ID)
      throw damaged(`token ${JSON.stringify(text)} with the id ${JSON.stringify(id)}`);
    ids.set(text, id);
  };
  if (Array.isArray(settings.vocab))
    for (const [id, entry] of settings.vocab.entries()) add(Array.isArray(entry) ? entry[0] : undefined, id);
  else {
    const vocab = expectObject(settings.vocab, "the model's vocab");
    for (const text of Object.keys(vocab)) add(text, vocab[text]);
  }
  if (ids.size === 0) throw damaged("an empty vocabulary");
  return ids;
}

function bpeModel(
  settings: Record<string, unknown>,
  ids: ReadonlyMap<string, number>,
  specialIds: ReadonlySet<number>,
): JsonModel {
  for (const key of ["dropout", "continuing_subword_prefix", "end_of_word_suffix"])
    if (settings[key]) throw new TokenizerError(`the tokenizer.json's model has ${key}, which this program does not do`);
  const merges = readMerges(settings.merges, ids, specialIds);
  const whole = settings.ignore_merges === true;
  const addUnknown = unknownCharacters(settings, ids);

  return {
    encodeWord(word, out) {
      const known = whole ? ids.get(word) : undefined;
      if (known !== undefined && !specialIds.has(known)) {
        out.push(known);
        return;
      }
      const symbols = new Int32Array(word.length);
      const unknown: string[] = [];
      let count = 0;
      for (const character of word) {
        const id = ids.get(character);
        if (id !== undefined && !specialIds.has(id)) symbols[count++] = id;
        else if (addUnknown) {
          unknown.push(character);
          symbols[count++] = UNKNOWN;
        }
      }
      count = mergePairs(symbols, count, merges);
      let unknownSeen = 0;
      for (let i = 0; i < count; i++) {
        if (symbols[i] === UNKNOWN) addUnknown!(out, unknown[unknownSeen++]!);
        else out.push(symbols[i]!);
      }
    },
  };
}

function readMerges(value: unknown, ids: ReadonlyMap<string, number>, specialIds: ReadonlySet<number>): PairTable {
  if (!Array.isArray(value)) throw damaged("no list of merges");
  const merges = new PairTable(value.length);
  for (let rank = 0; rank < value.length; rank++) {
    const entry: unknown = value[rank];
    const pair: unknown[] = typeof entry === "string" ? entry.split(" ") : Array.isArray(entry) ? entry : [];
    const left = pair[0];
    const right = pair[1];
    if (pair.length !== 2 || typeof left !== "string" || typeof right !== "string")
      throw damaged(`a merge that is not a pair: ${JSON.stringify(entry)?.slice(0, 80)}`);
    const l = ids.get(left);
    const r = ids.get(right);
    const merged = ids.get(left + right);
    if (l === undefined || r === undefined || merged === undefined)
      throw damaged(`the merge ${JSON.stringify(pair)}, whose parts or result are not in the vocabulary`);
    if (!specialIds.has(merged)) merges.add(l, r, merged, rank);
  }
  return merges;
}

/** What becomes of a character without a token: its bytes, the unknown token, or (`null`) nothing. */
function unknownCharacters(
  settings: Record<string, unknown>,
  ids: ReadonlyMap<string, number>,
): ((out: number[], text: string) => void) | null {
  const unk = typeof settings.unk_token === "string" ? ids.get(settings.unk_token) : undefined;
  const fuse = settings.fuse_unk === true;
  const bytes = settings.byte_fallback === true ? Array.from({ length: 256 }, (_, byte) => ids.get(pieceOfByte(byte))) : null;
  if (unk === undefined && !bytes) return null;
  return (out, text) => {
    const spelled = bytes ? Array.from(encoder.encode(text), (byte) => bytes[byte]) : [undefined];
    if (spelled.every((id) => id !== undefined)) for (const id of spelled) out.push(id);
    else if (unk !== undefined && !(fuse && out.at(-1) === unk)) out.push(unk);
  };
}

function unigramModel(
  settings: Record<string, unknown>,
  ids: ReadonlyMap<string, number>,
  specialIds: ReadonlySet<number>,
): JsonModel {
  const unkId = settings.unk_id;
  const byteFallback = settings.byte_fallback === true;
  const pieces = (settings.vocab as unknown[]).flatMap((entry, id) => {
    const [text, score] = entry as [string, unknown];
    if (typeof score !== "number" || !Number.isFinite(score)) throw damaged(`piece ${JSON.stringify(text)} without a score`);
    return specialIds.has(id) || id === unkId ? [] : [{ text, id, score }];
  });
  if (unkId !== null && unkId !== undefined && (typeof unkId !== "number" || !ids.has(unkSpelling(settings.vocab, unkId))))
    throw damaged("an unk_id that no piece has");
  const unk = typeof unkId === "number" ? unkId : undefined;
  const model = new UnigramModel(pieces);
  const bytes = byteFallback ? Array.from({ length: 256 }, (_, byte) => ids.get(pieceOfByte(byte))) : null;
  return {
    encodeWord(word, out) {
      for (const { id, start, end } of model.segment(word)) {
        const spelled = id < 0 && bytes ? Array.from(encoder.encode(word.slice(start, end)), (byte) => bytes[byte]) : [undefined];
        if (id >= 0) out.push(id);
        else if (spelled.every((byte) => byte !== undefined)) for (const byte of spelled) out.push(byte);
        else if (unk === undefined)
          throw new TokenizerError(
            `no token for ${JSON.stringify(word.slice(start, end))}, and the tokenizer.json names no unknown token`,
          );
        else if (out.at(-1) !== unk) out.push(unk);
      }
    },
  };
}

function unkSpelling(vocab: unknown, id: number): string {
  const entry = Array.isArray(vocab) ? vocab[id] : undefined;
  return Array.isArray(entry) ? String(entry[0]) : "";
}

function cached(model: JsonModel): JsonModel {
  const words = new Map<string, readonly number[]>();
  return {
    encodeWord(word, out) {
      if (word.length > CACHED_WORD_LENGTH) return model.encodeWord(word, out);
      let ids = words.get(word);
      if (!ids) {
        const fresh: number[] = [];
        model.encodeWord(word, fresh);
        if (words.size === CACHED_WORDS) words.clear();
        words.set(word, fresh);
        ids = fresh;
      }
      for (const id of ids) out.push(id);
    },
  };
}

function damaged(what: string): TokenizerError {
  return new TokenizerError(`the tokenizer.json is damaged: it has ${what}`);
}
