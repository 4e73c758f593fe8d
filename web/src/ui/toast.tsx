// A line at the edge of the page that says what has happened, with a way back where there is one.

import { signal } from "@preact/signals";
import { announce } from "./announce.js";

interface Toast {
  readonly text: string;
  readonly undo: (() => void) | null;
}

const SHOWN_MS = 9000;

const shown = signal<Toast | null>(null);
let timer = 0;

export function toast(text: string, undo: (() => void) | null = null): void {
  shown.value = { text, undo };
  announce(undo ? `${text} There is an undo button.` : text);
  window.clearTimeout(timer);
  timer = window.setTimeout(() => {
    shown.value = null;
  }, SHOWN_MS);
}

export function Toasts() {
  const toast = shown.value;
  if (!toast) return null;
  const take = () => {
    shown.value = null;
    toast.undo?.();
  };
  return (
    <section class="toast" aria-label="Message">
      <span>{toast.text}</span>
      {toast.undo && (
        <button type="button" class="button quiet" onClick={take}>
          Undo
        </button>
      )}
    </section>
  );
}
