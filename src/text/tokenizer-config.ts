// tokenizer_config.json and special_tokens_map.json: which tokens begin and end a text, and
// which are special. Optional files, written by many hands: what is there must have the right
// form, what is not there is `null`.

import { TokenizerError } from "./errors.js";

export interface TokenizerConfig {
  /** Spellings. */
  readonly bos: string | null;
  readonly eos: string | null;
  readonly addBos: boolean | null;
  /** Spellings that are said to be special. */
  readonly special: ReadonlySet<string>;
  /** `added_tokens_decoder`: spelling → id, for vocabularies whose own file does not have them. */
  readonly added: ReadonlyMap<string, number>;
  readonly tokenizerClass: string | null;
}

/** Largest id that is believed; the largest vocabularies have some 260,000. */
export const LARGEST_ID = 0xffffff;

/**
 * @param config tokenizer_config.json, parsed, or `null`
 * @param map special_tokens_map.json, parsed, or `null`
 */
export function readTokenizerConfig(config: unknown, map: unknown): TokenizerConfig {
  const main = config === null || config === undefined ? {} : expectObject(config, "tokenizer_config.json");
  const fallback = map === null || map === undefined ? {} : expectObject(map, "special_tokens_map.json");
  const special = new Set<string>();
  const token = (key: string): string | null => tokenText(main[key], key) ?? tokenText(fallback[key], key);
  for (const key of ["bos_token", "eos_token", "unk_token", "pad_token"]) {
    const text = token(key);
    if (text) special.add(text);
  }
  for (const source of [main, fallback]) {
    const more = source.additional_special_tokens;
    if (more === undefined || more === null) continue;
    if (!Array.isArray(more)) throw malformed("additional_special_tokens is not a list");
    for (const entry of more) {
      const text = tokenText(entry, "additional_special_tokens");
      if (text) special.add(text);
    }
  }
  const added = new Map<string, number>();
  if (main.added_tokens_decoder !== undefined && main.added_tokens_decoder !== null)
    for (const [key, entry] of Object.entries(expectObject(main.added_tokens_decoder, "added_tokens_decoder"))) {
      const id = Number(key);
      if (!/^\d+$/.test(key) || id > LARGEST_ID) throw malformed(`added_tokens_decoder has the id ${JSON.stringify(key)}`);
      const text = tokenText(entry, `added_tokens_decoder[${key}]`);
      if (!text) throw malformed(`added_tokens_decoder[${key}] has no content`);
      added.set(text, id);
      if ((entry as { special?: unknown }).special === true) special.add(text);
    }
  const addBos = main.add_bos_token ?? null;
  if (addBos !== null && typeof addBos !== "boolean") throw malformed("add_bos_token is neither true nor false");
  const tokenizerClass = typeof main.tokenizer_class === "string" ? main.tokenizer_class : null;
  return { bos: token("bos_token"), eos: token("eos_token"), addBos, special, added, tokenizerClass };
}

/** A token is written as its spelling or as `{content: spelling, …}`. */
function tokenText(value: unknown, where: string): string | null {
  if (value === undefined || value === null) return null;
  if (typeof value === "string") return value;
  if (typeof value === "object" && typeof (value as { content?: unknown }).content === "string")
    return (value as { content: string }).content;
  throw malformed(`${where} is neither a text nor {"content": text}`);
}

export function expectObject(value: unknown, what: string): Record<string, unknown> {
  if (typeof value !== "object" || value === null || Array.isArray(value)) throw malformed(`${what} is not an object`);
  return value as Record<string, unknown>;
}

function malformed(what: string): TokenizerError {
  return new TokenizerError(`the tokenizer's settings cannot be used: ${what}`, {
    hint: "Look at tokenizer_config.json and special_tokens_map.json.",
  });
}
