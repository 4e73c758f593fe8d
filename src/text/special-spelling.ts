// Which tokens count as special where a file does not say so plainly. SentencePiece has one
// kind of "user-defined symbol" for chat marks (`<|end|>`) and for ordinary things (runs of
// spaces, digits); older tokenizer.json files list chat marks as not special. A mark that
// ends or begins a turn must never come out of user text, so spelling decides as well.

/** Chat marks such as `<|user|>`. */
export function looksLikeChatMark(spelling: string): boolean {
  return /^<\|[^\s<>]+\|>$/u.test(spelling);
}

/** Spellings by which a user-defined symbol of SentencePiece counts as special: `<|end|>`, `<start_of_turn>`, `[INST]`. */
export function looksLikeMarkup(spelling: string): boolean {
  return looksLikeChatMark(spelling) || /^<[^\s<>]+>$/u.test(spelling) || /^\[\/?[A-Z_]+\]$/.test(spelling);
}
