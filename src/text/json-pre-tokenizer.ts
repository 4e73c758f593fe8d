// How a tokenizer.json prepares text: its normalizer and pre_tokenizer, run by
// @huggingface/tokenizers. The library takes some settings without doing them (punctuation
// that stands alone, other ways to split, compiled charsmaps); those are refused here, so
// that ids are never silently different. Metaspace is done here: the library's never splits.

import { Tokenizer as LibraryTokenizer } from "@huggingface/tokenizers";
import { TokenizerError } from "./errors.js";
import { withTimeLimit } from "./time-limit.js";
import { expectObject } from "./tokenizer-config.js";

/** Cuts text into the words that the model then sees. */
export interface PreTokenizer {
  normalize(text: string): string;
  /** @param first the text is the beginning of the whole */
  split(text: string, first: boolean): string[];
}

type Step = (pieces: string[], first: boolean) => string[];

const NORMALIZERS = new Set([
  "NFC",
  "NFD",
  "NFKC",
  "NFKD",
  "Lowercase",
  "Prepend",
  "Replace",
  "Strip",
  "StripAccents",
  "Sequence",
]);
/** For any text; each ten characters more may take a millisecond more, a thousand times what they need. */
const LONGEST_MS = 5_000;
/** Deep enough for every real file, and far from the stack's end. */
const DEEPEST_SEQUENCE = 16;

/** @throws {TokenizerError} naming what this program cannot do */
export function jsonPreTokenizer(normalizer: unknown, preTokenizer: unknown): PreTokenizer {
  checkNormalizer(normalizer, 0);
  const normalize = normalizer ? libraryPart({ normalizer, pre_tokenizer: null }).normalizer : null;
  const steps = preTokenizerSteps(preTokenizer ?? null, 0);
  // Only a file's own regular expressions can run away; most files have none, and need no watch.
  const watched = JSON.stringify([normalizer, preTokenizer])?.includes('"Regex"') ?? false;
  const limited = <T>(text: string, work: () => T): T =>
    watched ? withTimeLimit(LONGEST_MS + text.length / 10, work, tooLong) : work();
  return {
    normalize: (text) => (normalize ? limited(text, () => normalize.normalize(text)) : text),
    split: (text, first) =>
      steps.length === 0 ? [text] : limited(text, () => steps.reduce((pieces, step) => step(pieces, first), [text])),
  };
}

function checkNormalizer(value: unknown, depth: number): void {
  if (value === null || value === undefined) return;
  const normalizer = expectObject(value, "normalizer");
  const type = String(normalizer.type);
  if (!NORMALIZERS.has(type) || depth > DEEPEST_SEQUENCE) throw unsupported("normalizer", type);
  if (type !== "Sequence") return;
  if (!Array.isArray(normalizer.normalizers)) throw malformed("a normalizer Sequence without its list");
  for (const part of normalizer.normalizers) checkNormalizer(part, depth + 1);
}

function preTokenizerSteps(value: unknown, depth: number): Step[] {
  if (value === null) return [];
  const settings = expectObject(value, "pre_tokenizer");
  const type = String(settings.type);
  if (depth > DEEPEST_SEQUENCE) throw unsupported("pre_tokenizer", "a deeply nested Sequence");
  switch (type) {
    case "Sequence":
      if (!Array.isArray(settings.pretokenizers)) throw malformed("a pre_tokenizer Sequence without its list");
      return settings.pretokenizers.flatMap((part) => preTokenizerSteps(part, depth + 1));
    case "Metaspace":
      return [metaspace(settings)];
    case "Split":
      checkSplit(settings);
      return [libraryStep(settings)];
    case "ByteLevel":
    case "Digits":
      return [libraryStep(settings)];
    default:
      throw unsupported("pre_tokenizer", type);
  }
}

function checkSplit(settings: Record<string, unknown>): void {
  const pattern = expectObject(settings.pattern, "the pattern of a Split");
  if (typeof pattern.Regex !== "string" && typeof pattern.String !== "string") throw malformed("a Split without a pattern");
  const behavior = String(settings.behavior);
  const supported = settings.invert ? behavior === "Removed" : behavior === "Removed" || behavior === "Isolated";
  if (!supported) throw unsupported("pre_tokenizer", `Split with behavior ${behavior}${settings.invert ? ", inverted" : ""}`);
}

function libraryStep(settings: Record<string, unknown>): Step {
  const preTokenizer = libraryPart({ normalizer: null, pre_tokenizer: settings }).pre_tokenizer!;
  return (pieces, first) => preTokenizer.pre_tokenize(pieces, { section_index: first ? 0 : 1 });
}

/** The library reads whole files only: it gets one with nothing else in it. */
function libraryPart(part: { normalizer: unknown; pre_tokenizer: unknown }): LibraryTokenizer {
  const empty = { model: { type: "BPE", vocab: {}, merges: [] }, decoder: null, post_processor: null, added_tokens: [] };
  try {
    return new LibraryTokenizer({ ...empty, ...part }, {});
  } catch (error) {
    throw new TokenizerError(`the tokenizer.json cannot be used: ${(error as Error).message}`, { cause: error });
  }
}

function metaspace(settings: Record<string, unknown>): Step {
  const mark = settings.replacement ?? "\u2581";
  if (typeof mark !== "string" || [...mark].length !== 1) throw malformed("a Metaspace whose replacement is not one character");
  // Files of 2023 and before say add_prefix_space instead of prepend_scheme, and mean all or nothing.
  const scheme = settings.prepend_scheme ?? (settings.add_prefix_space === false ? "never" : "always");
  if (scheme !== "always" && scheme !== "first" && scheme !== "never")
    throw unsupported("Metaspace prepend_scheme", String(scheme));
  const split = settings.split !== false;
  return (pieces, first) =>
    pieces.flatMap((piece, index) => {
      let text = piece.replaceAll(" ", mark);
      const prepend = scheme === "always" || (scheme === "first" && first && index === 0);
      if (prepend && !text.startsWith(mark)) text = mark + text;
      return split ? splitBefore(text, mark) : [text];
    });
}

/** Every piece but perhaps the first begins with the mark. */
function splitBefore(text: string, mark: string): string[] {
  const pieces: string[] = [];
  let begin = 0;
  for (let at = text.indexOf(mark, 1); at >= 0; at = text.indexOf(mark, at + 1)) {
    pieces.push(text.slice(begin, at));
    begin = at;
  }
  pieces.push(text.slice(begin));
  return pieces;
}

function tooLong(): TokenizerError {
  return new TokenizerError("the tokenizer.json's patterns take too long on this text");
}

function unsupported(part: string, what: string): TokenizerError {
  return new TokenizerError(`the tokenizer.json has a ${part} of type ${what}, which this program does not do`, {
    hint: "If the model also has a tokenizer.model, remove tokenizer.json to use that.",
  });
}

function malformed(what: string): TokenizerError {
  return new TokenizerError(`the tokenizer.json is damaged: it has ${what}`);
}
