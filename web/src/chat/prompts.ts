// What the model is given to read: a branch as messages for its chat template, or as lines
// `Name: text` of people who talk.

import type { ChatMessage } from "../server/completions.js";
import type { SessionBlock, SessionContent } from "../session/document.js";

/** @param blocks those of the branch that the model sees */
export function chatMessages({ prompt }: SessionContent, blocks: readonly SessionBlock[], withPrompt: boolean): ChatMessage[] {
  const system = withPrompt && prompt.text.trim() !== "" ? [{ role: "system", content: prompt.text }] : [];
  return [...system, ...blocks.map(({ author, text }) => ({ role: author === "user" ? "user" : "assistant", content: text }))];
}

/** The talk so far, up to where the next name stands. */
export function transcript({ prompt }: SessionContent, blocks: readonly SessionBlock[], withPrompt: boolean): string {
  const head = withPrompt && prompt.text.trim() !== "" ? `${prompt.text.trim()}\n\n` : "";
  return head + blocks.map(({ author, text }) => `${author}: ${text.trim()}\n`).join("");
}

/** Where a voice's turn ends: at the next line that begins with somebody's name. */
export function voiceStops({ participants }: Pick<SessionContent, "participants">): string[] {
  return participants.map(({ name }) => `\n${name}:`);
}
