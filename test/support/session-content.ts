// Sessions for tests.

import type { SessionContent } from "../../src/server/sessions/document.js";

/** A valid session with two blocks, or with what is given instead. */
export function sessionContent(changes: Partial<SessionContent> = {}): SessionContent {
  const created = "2026-01-02T03:04:05.000Z";
  return {
    title: "Foxes",
    mode: "chat",
    prompt: { text: "You tell stories.", pinned: true },
    participants: [],
    settings: { sampling: {}, seed: null, maxTokens: 256, stop: [], stopOnNewline: false, probabilities: true, turns: 3 },
    blocks: [
      { id: "a", parent: null, author: "user", text: "Tell me about a fox.", created },
      { id: "b", parent: "a", author: "assistant", text: "Once there was a fox.", created },
    ],
    leaf: "b",
    firstKept: null,
    text: "",
    ...changes,
  };
}
