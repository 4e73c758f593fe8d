// One of many texts as a tree of their common beginnings: what may come next is then found by
// one branch a character, where a flat list of thousands would be tried one by one.

import { type Expression, either, NOTHING, sequence, text } from "./expression.js";

/** Exactly one of the texts. */
export function choiceOf(choices: Iterable<string>): Expression {
  return branch([...new Set(choices)].map((choice) => [...choice]).sort(byCharacters), 0);
}

/** @param sorted characters of texts that are equal before `depth`, in order */
function branch(sorted: readonly (readonly string[])[], depth: number): Expression {
  if (sorted.length === 1) return text(sorted[0]!.slice(depth).join(""));
  const first = sorted[0]!;
  const last = sorted.at(-1)!;
  let shared = depth;
  while (shared < first.length && first[shared] === last[shared]) shared++;
  const parts: Expression[] = [];
  let begin = 0;
  if (first.length === shared) {
    parts.push(NOTHING); // one text is the beginning of the others
    begin = 1;
  }
  while (begin < sorted.length) {
    let end = begin + 1;
    while (end < sorted.length && sorted[end]![shared] === sorted[begin]![shared]) end++;
    parts.push(branch(sorted.slice(begin, end), shared));
    begin = end;
  }
  return sequence(text(first.slice(depth, shared).join("")), either(...parts));
}

function byCharacters(a: readonly string[], b: readonly string[]): number {
  for (let i = 0; i < a.length && i < b.length; i++) if (a[i] !== b[i]) return a[i]! < b[i]! ? -1 : 1;
  return a.length - b.length;
}
