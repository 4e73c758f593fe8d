// Tokens of texts, each asked for once.

import { countTokens } from "../server/completions.js";

/** Texts whose counts are remembered. */
const MOST = 5000;

const counts = new Map<string, Promise<number>>();

export function counted(text: string): Promise<number> {
  let count = counts.get(text);
  if (!count) {
    if (counts.size >= MOST) counts.clear();
    count = countTokens(text);
    count.catch(() => counts.delete(text));
    counts.set(text, count);
  }
  return count;
}
