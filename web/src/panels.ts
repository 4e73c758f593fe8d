// Which side panels are open. On a phone each covers the page, so opening one closes the other,
// the focus goes into it, and comes back when it is closed.

import { type Signal, signal } from "@preact/signals";

const NARROW = "(max-width: 60rem)";

export const sidebarOpen = signal(false);
export const settingsOpen = signal(false);

let opener: Element | null = null;

export function toggleSidebar(): void {
  toggle(sidebarOpen, settingsOpen);
}

export function toggleSettings(): void {
  toggle(settingsOpen, sidebarOpen);
}

/** Uncovers the page. */
export function closePanels(): void {
  const covered = isNarrow() && (sidebarOpen.peek() || settingsOpen.peek());
  sidebarOpen.value = false;
  if (!covered) return;
  settingsOpen.value = false;
  if (opener instanceof HTMLElement) opener.focus();
}

/** For the button in a panel that closes it: takes the focus where the panel covers the page. */
export function focusWhereCovering(button: HTMLElement | null): void {
  if (isNarrow()) button?.focus();
}

function toggle(panel: Signal<boolean>, other: Signal<boolean>): void {
  if (panel.peek()) {
    panel.value = false;
    if (isNarrow() && opener instanceof HTMLElement) opener.focus();
    return;
  }
  opener = document.activeElement;
  other.value = false;
  panel.value = true;
}

function isNarrow(): boolean {
  return matchMedia(NARROW).matches;
}
