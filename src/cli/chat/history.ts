// What was typed in earlier chats, for the arrow keys: one line each, in the user's state
// folder. A convenience: where it cannot be kept, the chat goes on without.

import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { homedir } from "node:os";
import { dirname, join } from "node:path";

const MOST_LINES = 500;

export function historyPath(): string {
  return join(process.env.XDG_STATE_HOME || join(homedir(), ".local", "state"), "exllama", "chat-history");
}

/** Newest first, as readline wants it. */
export function readHistory(path = historyPath()): string[] {
  try {
    return readFileSync(path, "utf8").split("\n").filter(Boolean).reverse().slice(0, MOST_LINES);
  } catch {
    return [];
  }
}

/** @param lines newest first */
export function writeHistory(lines: readonly string[], path = historyPath()): void {
  try {
    mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
    writeFileSync(path, `${lines.slice(0, MOST_LINES).reverse().join("\n")}\n`, { mode: 0o600 });
  } catch {
    // A read-only home is no reason to end a chat.
  }
}
