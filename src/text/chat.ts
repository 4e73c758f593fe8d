// A conversation as token ids. The template's special tokens become tokens; whatever a
// message says stays text, even `<|end|>`: before rendering, a character of every special
// spelling inside a message is swapped for one of Unicode's private use that occurs nowhere
// else, and swapped back in the ordinary text between the template's own special tokens.

import type { ChatTemplate, RenderOptions, TemplateMessage } from "./chat-template.js";
import { ChatTemplateError } from "./errors.js";
import { type Segment, spellingPattern, type Tokenizer } from "./tokenizer.js";

/**
 * Ids of a conversation, ready for the assistant's answer: one BOS at most, whether the
 * template or the tokenizer puts it there.
 *
 * @throws {ChatTemplateError}
 */
export function encodeChat(
  tokenizer: Tokenizer,
  template: ChatTemplate | null,
  messages: readonly TemplateMessage[],
  options: RenderOptions = {},
): number[] {
  if (!template)
    throw new ChatTemplateError("this model has no chat template, so it cannot chat", {
      hint: "Use plain completion (exllama generate, model.generate), or put a chat_template.jinja into the model's folder.",
    });
  const { tools } = options;
  const disguise = new Disguise(tokenizer.specialTokens.keys(), template.source, [messages, tools ?? []]);
  const hidden = disguise.hideAll(messages) as TemplateMessage[];
  const rendered = template.render(
    hidden,
    tools === undefined ? options : { ...options, tools: disguise.hideAll(tools) as unknown[] },
  );

  const segments: Segment[] = tokenizer
    .split(rendered)
    .map((segment) => ("special" in segment ? segment : { text: disguise.reveal(segment.text) }));
  return tokenizer.encodeRendered(segments);
}

/** Private-use characters of the first plane. */
const PRIVATE_FIRST = 0xe000;
const PRIVATE_LAST = 0xf8ff;

class Disguise {
  readonly #startsOfSpecial: RegExp | null;
  readonly #spellings: readonly string[];
  readonly #standIn = new Map<string, string>();
  readonly #original = new Map<string, string>();

  /** @param said everything that comes from outside */
  constructor(spellings: Iterable<string>, template: string, said: unknown) {
    this.#spellings = [...spellings];
    const any = spellingPattern(this.#spellings);
    this.#startsOfSpecial = any && new RegExp(`(?=${any.source}).`, "gsu");
    const firstCharacters = new Set(this.#spellings.map((spelling) => String.fromCodePoint(spelling.codePointAt(0)!)));
    const taken = new Set<string>();
    for (const text of [template, ...this.#spellings, ...textsIn(said)])
      for (const [character] of text.matchAll(/[\ue000-\uf8ff]/g)) taken.add(character);
    let next = PRIVATE_FIRST;
    for (const character of firstCharacters) {
      while (taken.has(String.fromCharCode(next))) next++;
      if (next > PRIVATE_LAST)
        throw new ChatTemplateError(
          "the messages use every private character of Unicode; none is left to mark special tokens with",
        );
      const standIn = String.fromCharCode(next++);
      this.#standIn.set(character, standIn);
      this.#original.set(standIn, character);
    }
  }

  /** No special spelling is in the result, nor arises from it when a template puts its own text beside it. */
  hide(text: string): string {
    if (!this.#startsOfSpecial) return text;
    const inside = text.replace(this.#startsOfSpecial, (character) => this.#standIn.get(character) ?? character);
    return this.#hideLooseEnd(inside);
  }

  /** The same with every text in it hidden, names of fields included. */
  hideAll(value: unknown): unknown {
    if (typeof value === "string") return this.hide(value);
    if (Array.isArray(value)) return value.map((item) => this.hideAll(item));
    if (typeof value !== "object" || value === null) return value;
    return Object.fromEntries(Object.entries(value).map(([key, item]) => [this.hide(key), this.hideAll(item)]));
  }

  reveal(text: string): string {
    return text.replace(/[\ue000-\uf8ff]/g, (character) => this.#original.get(character) ?? character);
  }

  /** A text that ends in `<|en` must not become a token by what follows it; a template may trim spaces at the end. */
  #hideLooseEnd(text: string): string {
    const end = text.trimEnd().length;
    let start = end;
    for (const spelling of this.#spellings)
      for (let length = Math.min(spelling.length - 1, end); length > 0; length--)
        if (text.startsWith(spelling.slice(0, length), end - length)) {
          start = Math.min(start, end - length);
          break;
        }
    if (start === end) return text;
    let hidden = "";
    for (const character of text.slice(start, end)) hidden += this.#standIn.get(character) ?? character;
    return text.slice(0, start) + hidden + text.slice(end);
  }
}

function* textsIn(value: unknown): Iterable<string> {
  if (typeof value === "string") yield value;
  else if (typeof value === "object" && value !== null)
    for (const [key, item] of Object.entries(value)) {
      yield key;
      yield* textsIn(item);
    }
}
