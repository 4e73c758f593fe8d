// What was not yet on the server when the page was left: kept in this browser, and merged into
// the session when it is opened again. A request that is sent while a page goes away may be too
// large, too late, or cross another one.

import type { SessionContent } from "./document.js";
import { lighter } from "./lighter.js";

export interface Unsaved {
  /** What the server had. */
  readonly base: SessionContent;
  readonly content: SessionContent;
}

const keyOf = (id: string) => `exllama.unsaved.${id}`;

export function keepUnsaved(id: string, unsaved: Unsaved): void {
  for (const { base, content } of [unsaved, { base: lighter(unsaved.base, 0), content: lighter(unsaved.content, 0) }])
    try {
      localStorage.setItem(keyOf(id), JSON.stringify({ base, content }));
      return;
    } catch {
      // The browser gives only so much room: once more without probabilities.
    }
}

/** Takes it out again; `null` where there is none. */
export function takeUnsaved(id: string): Unsaved | null {
  const text = localStorage.getItem(keyOf(id));
  if (text === null) return null;
  localStorage.removeItem(keyOf(id));
  try {
    return JSON.parse(text) as Unsaved;
  } catch {
    return null;
  }
}
