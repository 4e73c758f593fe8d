// Which side panels are open. On a phone each covers the page, so opening one closes the other.

import { signal } from "@preact/signals";

const NARROW = "(max-width: 60rem)";

export const sidebarOpen = signal(false);
export const settingsOpen = signal(false);

/** The sidebar lies over the page rather than beside it. */
export function isNarrow(): boolean {
  return matchMedia(NARROW).matches;
}

export function toggleSidebar(): void {
  sidebarOpen.value = !sidebarOpen.peek();
  if (sidebarOpen.peek()) settingsOpen.value = false;
}

export function toggleSettings(): void {
  settingsOpen.value = !settingsOpen.peek();
  if (settingsOpen.peek()) sidebarOpen.value = false;
}

export function closePanels(): void {
  sidebarOpen.value = false;
  if (isNarrow()) settingsOpen.value = false;
}
