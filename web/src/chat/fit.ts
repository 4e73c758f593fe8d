// What of a branch still fits the model's context. When it no longer does, a whole quarter of
// it is left out at once, so that the beginning stays the same for many turns and its keys and
// values are found in the cache again.

import type { SessionBlock, SessionContent } from "../session/document.js";

/** Tokens that a template puts around each message, generously. */
const AROUND = 8;

/** At most this part of the context is kept free for the answer. */
const ANSWER_SHARE = 1 / 4;

/** What remains of the room for the prompt after blocks had to be left out. */
const AFTER_CUT = 3 / 4;

export interface Seen {
  /** Those that the model sees, newest last. */
  readonly blocks: readonly SessionBlock[];
  /** The fixed prompt is among what it sees. */
  readonly withPrompt: boolean;
  /** The first block that it sees when others were left out, else `null`. */
  readonly firstKept: string | null;
}

/**
 * @param branch from the first block to the newest
 * @param context tokens that the model can take, the answer included
 * @param count tokens of a text
 */
export async function fitBranch(
  content: SessionContent,
  branch: readonly SessionBlock[],
  context: number,
  count: (text: string) => Promise<number>,
): Promise<Seen> {
  const room = context - Math.min(content.settings.maxTokens, Math.floor(context * ANSWER_SHARE));
  const texts = [content.prompt.text, ...branch.map(({ text }) => text)];
  const before = branch.findIndex(({ id }) => id === content.firstKept);
  if (before <= 0 && bytes(texts) + texts.length * AROUND <= room) return seen(content, branch, 0); // no token is less than a byte

  const costs = await Promise.all(branch.map(async ({ text, author }) => (await count(`${author}: ${text}`)) + AROUND));
  const prompt = content.prompt.text === "" ? 0 : (await count(content.prompt.text)) + AROUND;
  let first = Math.max(0, before);
  const total = () =>
    costs.slice(first).reduce((sum, cost) => sum + cost, 0) + (content.prompt.pinned || first === 0 ? prompt : 0);
  if (total() > room) while (first < branch.length - 1 && total() > room * AFTER_CUT) first++;
  return seen(content, branch, first);
}

/**
 * The end of a free text that fits, its fixed prompt before it where that is pinned or nothing
 * had to be left out. Cuts fall at multiples of one length, so that they move seldom.
 *
 * @param count tokens of a text
 */
export async function fitText(
  { text, prompt, settings }: Pick<SessionContent, "text" | "prompt" | "settings">,
  context: number,
  count: (text: string) => Promise<number>,
): Promise<string> {
  const room = context - Math.min(settings.maxTokens, Math.floor(context * ANSWER_SHARE));
  const head = prompt.text === "" ? "" : `${prompt.text.trimEnd()}\n\n`;
  if (bytes([head + text]) + AROUND <= room) return head + text;
  if ((await count(head + text)) + AROUND <= room) return head + text;
  const kept = prompt.pinned ? head : "";
  const left = room - AROUND - (kept === "" ? 0 : await count(kept));
  for (let cut = room; cut < text.length; cut += room) {
    const end = text.slice(startOfWord(text, cut));
    if ((await count(end)) <= left) return kept + end;
  }
  return kept + text.slice(-Math.max(1, Math.floor(left / 4)));
}

function startOfWord(text: string, at: number): number {
  const space = text.slice(at, at + 200).search(/\s/);
  return space < 0 ? at : at + space + 1;
}

function seen({ prompt }: SessionContent, branch: readonly SessionBlock[], first: number): Seen {
  return {
    blocks: branch.slice(first),
    withPrompt: prompt.pinned || first === 0,
    firstKept: first === 0 ? null : (branch[first]?.id ?? null),
  };
}

function bytes(texts: readonly string[]): number {
  const encoder = new TextEncoder();
  return texts.reduce((sum, text) => sum + encoder.encode(text).length, 0);
}
