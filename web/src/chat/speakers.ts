// Who speaks next: the model says so itself, by going on from the talk with one of the names
// and nothing else. A person's name means that it is the person's turn.

import { page } from "../page-data.js";
import { choose } from "../server/completions.js";
import type { SessionContent } from "../session/document.js";

/**
 * @param talk what was said, up to the next name
 * @param last who has just spoken, and does not go on
 * @returns a voice of the model's, or `null`: the person
 */
export async function nextSpeaker(
  content: Pick<SessionContent, "participants" | "settings">,
  talk: string,
  last: string | undefined,
  signal: AbortSignal,
): Promise<string | null> {
  const able = content.participants.filter(({ name }) => name !== last);
  const voices = able.filter(({ human }) => !human);
  const people = able.filter(({ human }) => human);
  if (voices.length === 0) return null;
  // Two who talk take turns; there is nothing to ask.
  if (able.length === 1) return voices[0]!.name;
  const choices = able.map(({ name }) => `${name}:`);
  const chosen = await choose(talk, choices, { model: page.peek()!.model, settings: content.settings, signal });
  const name = chosen.slice(0, -1);
  return people.some((person) => person.name === name) ? null : name;
}
