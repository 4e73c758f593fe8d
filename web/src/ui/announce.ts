// What a screen reader hears of an answer that grows: that it begins, then whole sentences a
// few seconds apart, then that it has ended. Letters as they come would never let it finish.

import { signal } from "@preact/signals";

const PAUSE_MS = 4000;

/** The text of the page's live region. */
export const announcement = signal("");

let said = 0;
let last = 0;

export function announce(text: string): void {
  announcement.value = announcement.peek() === text ? `${text}\u00a0` : text; // the same words again are still news
}

export function announceAnswer(who: string): void {
  said = 0;
  last = performance.now();
  announce(`${who} is answering.`);
}

/**
 * @param text the whole answer so far
 * @param ending what to say once it is complete; `null` while it grows
 */
export function announceEnd(text: string, ending: string | null): void {
  if (ending !== null) {
    announce(`${text.slice(said).trim()} ${ending}`.trim());
    return;
  }
  if (performance.now() - last < PAUSE_MS) return;
  const sentence = text.slice(said).match(/^[\s\S]*[.!?…](?=\s)/)?.[0];
  if (!sentence) return;
  said += sentence.length;
  last = performance.now();
  announce(sentence.trim());
}
