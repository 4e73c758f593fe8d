// A new session's contents, by the way it is continued.

import type { SessionContent, SessionMode, SessionSettings } from "../../../src/server/sessions/document.js";

export const DEFAULT_SETTINGS: SessionSettings = {
  sampling: {},
  seed: null,
  maxTokens: 512,
  stop: [],
  stopOnNewline: false,
  probabilities: true,
  turns: 3,
};

/** What the chat's system message is until somebody writes another: none, as most templates have their own. */
const PROMPTS: Readonly<Record<SessionMode, string>> = {
  chat: "",
  voices: "A friendly conversation. Everybody answers in a sentence or two.",
  text: "",
};

export function newContent(mode: SessionMode, voices = 2): SessionContent {
  const names = ["You", "Ada", "Ben", "Cleo", "Dan", "Eva", "Finn", "Gil"].slice(0, voices);
  return {
    title: "",
    mode,
    prompt: { text: PROMPTS[mode], pinned: true },
    participants: mode === "voices" ? names.map((name, index) => ({ name, human: index === 0 })) : [],
    settings: { ...DEFAULT_SETTINGS, stopOnNewline: mode === "voices", maxTokens: mode === "voices" ? 160 : 512 },
    blocks: [],
    leaf: null,
    firstKept: null,
    text: "",
  };
}

/** A title out of what was said first, for a session that has none. */
export function titleFrom(text: string): string {
  const line = (text.trim().split("\n")[0] ?? "").replace(/[*_`#>]+/g, "").trim();
  if (line.length <= 48) return line;
  const cut = line.slice(0, 48);
  return `${cut.slice(0, cut.lastIndexOf(" ") > 24 ? cut.lastIndexOf(" ") : 48)}…`;
}

export function newId(): string {
  return crypto.getRandomValues(new Uint32Array(3)).reduce((id, word) => id + word.toString(36), "");
}
