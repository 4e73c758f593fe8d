// A tokenizer.json: added tokens, normalizer, pre-tokenizer, model, decoder. Tokens that are
// added but not special (runs of spaces, `<tool_call>`) belong to the vocabulary and are
// found in any text, as everywhere; special ones only when the caller asks, which is done by
// Tokenizer.

import { TokenizerError } from "./errors.js";
import { jsonDecoder } from "./json-decoder.js";
import { jsonModel, jsonModelIds } from "./json-model.js";
import { jsonPreTokenizer } from "./json-pre-tokenizer.js";
import { looksLikeChatMark } from "./special-spelling.js";
import { append, spellingPattern } from "./tokenizer.js";
import { expectObject, LARGEST_ID, type TokenizerConfig } from "./tokenizer-config.js";
import type { TextPlace, Vocabulary } from "./vocabulary.js";

const encoder = new TextEncoder();
const NO_BYTES = new Uint8Array(0);

interface AddedToken {
  readonly id: number;
  readonly content: string;
  readonly special: boolean;
  readonly normalized: boolean;
  readonly lstrip: boolean;
  readonly rstrip: boolean;
  readonly singleWord: boolean;
}

/** Reads a tokenizer.json, parsed but not believed. @throws {TokenizerError} */
export function jsonVocabulary(value: unknown, config: TokenizerConfig): Vocabulary {
  const file = expectObject(value, "tokenizer.json");
  const added = readAddedTokens(file.added_tokens, config);
  const special = new Map(added.filter((token) => token.special).map((token) => [token.content, token.id]));
  const ordinary = added.filter((token) => !token.special);
  const modelIds = jsonModelIds(file.model);
  const spellings = spellingsOf(modelIds, added);
  for (const name of [config.bos, config.eos, ...config.special]) {
    const id = name === null ? undefined : modelIds.get(name);
    if (name !== null && id !== undefined && !special.has(name) && !ordinary.some(({ content }) => content === name))
      special.set(name, id);
  }

  const model = jsonModel(file.model, modelIds, new Set([...special.values()]));
  const preTokenizer = jsonPreTokenizer(file.normalizer, file.pre_tokenizer);
  const decoder = jsonDecoder(file.decoder);
  const post = bosOfPostProcessor(file.post_processor, special);
  const namedBos = config.bos === null ? undefined : special.get(config.bos);

  const encodeWords = (text: string, first: boolean): number[] => {
    const ids: number[] = [];
    for (const word of preTokenizer.split(text, first)) if (word !== "") model.encodeWord(word, ids);
    return ids;
  };
  const encodeNormal = withAddedTokens(
    ordinary.filter((token) => token.normalized),
    encodeWords,
  );
  const encodeRaw = withAddedTokens(
    ordinary.filter((token) => !token.normalized),
    (text, first) => {
      const normal = preTokenizer.normalize(text);
      return normal === "" ? [] : encodeNormal(normal, first);
    },
  );

  return {
    size: spellings.length,
    special,
    stripping: new Map(added.map((token) => [token.id, { left: token.lstrip, right: token.rstrip }])),
    bosId: namedBos ?? post,
    eosIds: config.eos === null || !special.has(config.eos) ? [] : [special.get(config.eos)!],
    addsBos: config.addBos ?? post !== null,
    marksBeforeSpecial: false,
    leadingSpacesDropped: decoder.stripsFirstSpace ? 1 : 0,
    encodeOrdinary: (text: string, place: TextPlace) => (text === "" ? [] : encodeRaw(text, place.first)),
    spelling: (id) => spellings[id],
    bytes: bytesOf(spellings, added, decoder.bytes),
  };
}

function readAddedTokens(value: unknown, config: TokenizerConfig): AddedToken[] {
  if (value === undefined || value === null) return [];
  if (!Array.isArray(value)) throw damaged("added_tokens that are not a list");
  return value.map((entry: unknown) => {
    const token = expectObject(entry, "an added token");
    const { id, content } = token;
    if (
      typeof content !== "string" ||
      content === "" ||
      typeof id !== "number" ||
      !Number.isInteger(id) ||
      id < 0 ||
      id > LARGEST_ID
    )
      throw damaged(`the added token ${JSON.stringify(entry)?.slice(0, 120)}`);
    const named = config.special.has(content) || content === config.bos || content === config.eos;
    const special = token.special === true || named || looksLikeChatMark(content);
    return {
      id,
      content,
      special,
      normalized: token.normalized === undefined ? !special : token.normalized === true,
      lstrip: token.lstrip === true,
      rstrip: token.rstrip === true,
      singleWord: token.single_word === true,
    };
  });
}

/** Spelling of each id. Two of one id would make decoding depend on the order of a file. */
function spellingsOf(modelIds: ReadonlyMap<string, number>, added: readonly AddedToken[]): string[] {
  const spellings: string[] = [];
  const add = (text: string, id: number): void => {
    const other = spellings[id];
    if (other !== undefined && other !== text)
      throw damaged(`the id ${id} twice, for ${JSON.stringify(other)} and ${JSON.stringify(text)}`);
    spellings[id] = text;
  };
  for (const [text, id] of modelIds) add(text, id);
  for (const { content, id } of added) add(content, id);
  return spellings;
}

/** UTF-8 bytes of each id, made when they are first asked for: an answer shows few of the tokens there are. */
function bytesOf(
  spellings: readonly string[],
  added: readonly AddedToken[],
  decode: (spelling: string) => Uint8Array,
): (id: number) => Uint8Array {
  const plain = new Set(added.map(({ id }) => id));
  const known = new Map<number, Uint8Array>();
  return (id) => {
    const spelling = spellings[id];
    if (spelling === undefined) return NO_BYTES;
    let bytes = known.get(id);
    if (!bytes) {
      bytes = plain.has(id) ? encoder.encode(spelling) : decode(spelling);
      known.set(id, bytes);
    }
    return bytes;
  };
}

/** The token that the post_processor puts before a single text, or `null`. */
function bosOfPostProcessor(value: unknown, special: ReadonlyMap<string, number>): number | null {
  if (value === null || value === undefined) return null;
  const processor = expectObject(value, "post_processor");
  if (processor.type === "Sequence" && Array.isArray(processor.processors)) {
    for (const part of processor.processors) {
      const bos = expectObject(part, "post_processor").type === "Sequence" ? null : bosOfPostProcessor(part, special);
      if (bos !== null) return bos;
    }
    return null;
  }
  if (processor.type !== "TemplateProcessing" || !Array.isArray(processor.single)) return null;
  const first = expectObject(processor.single[0] ?? {}, "an entry of the post_processor").SpecialToken;
  if (first === undefined) return null;
  const name = expectObject(first, "a SpecialToken").id;
  return typeof name === "string" ? (special.get(name) ?? null) : null;
}

/** Finds added tokens in a text and leaves what lies between them to `encode`. */
function withAddedTokens(
  tokens: readonly AddedToken[],
  encode: (text: string, first: boolean) => number[],
): (text: string, first: boolean) => number[] {
  const pattern = spellingPattern(tokens.map((token) => token.content));
  if (!pattern) return encode;
  const byContent = new Map(tokens.map((token) => [token.content, token]));
  return (text, first) => {
    const ids: number[] = [];
    let begin = 0;
    let end = 0;
    const encodeTo = (to: number): void => {
      if (to > begin) append(ids, encode(text.slice(begin, to), first && begin === 0));
    };
    for (const match of text.matchAll(pattern)) {
      const token = byContent.get(match[0])!;
      end = match.index + match[0].length;
      if (match.index < begin || (token.singleWord && !standsAlone(text, match.index, end))) continue;
      encodeTo(token.lstrip ? begin + text.slice(begin, match.index).trimEnd().length : match.index);
      ids.push(token.id);
      begin = token.rstrip ? text.length - text.slice(end).trimStart().length : end;
    }
    encodeTo(text.length);
    return ids;
  };
}

function standsAlone(text: string, start: number, end: number): boolean {
  return !/[\p{L}\p{N}_]$/u.test(text.slice(Math.max(0, start - 2), start)) && !/^[\p{L}\p{N}_]/u.test(text.slice(end, end + 2));
}

function damaged(what: string): TokenizerError {
  return new TokenizerError(`the tokenizer.json is damaged: it has ${what}`);
}
