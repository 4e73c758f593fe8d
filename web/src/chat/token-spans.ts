// Which generated token a shown character came from, found by walking the source and what was
// made of it side by side: Markdown only leaves characters out, it does not change their order.

import type { TokenProbability } from "../session/document.js";

/** How far ahead the next shown character is looked for in the source. */
const LOOK_AHEAD = 24;

/** For each character of the text, the token it came from; −1 where none is known. */
export function tokensOfText(text: string, probabilities: readonly TokenProbability[]): Int32Array {
  const owner = new Int32Array(text.length).fill(-1);
  let at = 0;
  for (const [index, [token]] of probabilities.entries()) {
    const piece = at === 0 ? token.trimStart() : token;
    if (piece === "") continue;
    // A character of several tokens is spelled by none of them; the next one is looked for further on.
    const found = text.startsWith(piece, at) ? at : text.slice(at, at + 8 + piece.length).indexOf(piece) + at;
    if (found < at) continue;
    owner.fill(index, found, found + piece.length);
    at = found + piece.length;
  }
  return owner;
}

/** Wraps what each token has spelled in a span with `data-token`. @param source the text that was rendered @param owner of `source` */
export function markTokens(
  root: Node,
  source: string,
  owner: ArrayLike<number>,
  probabilities: readonly TokenProbability[],
): void {
  const walker = document.createTreeWalker(root, NodeFilter.SHOW_TEXT);
  const texts: Text[] = [];
  while (walker.nextNode()) texts.push(walker.currentNode as Text);
  let at = 0;
  for (const node of texts) {
    const pieces: { token: number; text: string }[] = [];
    for (const letter of node.data) {
      const found = findFrom(source, letter, at);
      const token = found < 0 ? -1 : (owner[found] ?? -1);
      if (found >= 0) at = found + letter.length;
      const last = pieces.at(-1);
      if (last && last.token === token) last.text += letter;
      else pieces.push({ token, text: letter });
    }
    node.replaceWith(...pieces.map((piece) => spanOf(piece, probabilities)));
  }
}

function findFrom(source: string, letter: string, at: number): number {
  if (source.startsWith(letter, at)) return at;
  if (/\s/.test(letter)) return /\s/.test(source[at] ?? "") ? at : -1;
  const found = source.slice(at, at + LOOK_AHEAD).indexOf(letter);
  return found < 0 ? -1 : at + found;
}

function spanOf({ token, text }: { token: number; text: string }, probabilities: readonly TokenProbability[]): Node {
  if (token < 0) return document.createTextNode(text);
  const span = document.createElement("span");
  span.className = `token p${level(probabilities[token]![1])}`;
  span.dataset.token = String(token);
  span.textContent = text;
  return span;
}

/** 0: hardly ever chosen … 4: nearly certain. */
export function level(logprob: number): number {
  const probability = Math.exp(logprob);
  return [0.05, 0.2, 0.5, 0.85].filter((bound) => probability >= bound).length;
}
