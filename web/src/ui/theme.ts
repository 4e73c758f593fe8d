// Light, dark, or as the system has it. `theme.js` applies the choice before the first paint.

import { signal } from "@preact/signals";

export type Theme = "auto" | "light" | "dark";

const KEY = "exllama.theme";
const ORDER: readonly Theme[] = ["auto", "light", "dark"];

export const theme = signal<Theme>(read());
/** Grows whenever colours may have changed: what is drawn on a canvas is drawn anew. */
export const colors = signal(0);

export function nextTheme(): void {
  theme.value = ORDER[(ORDER.indexOf(theme.peek()) + 1) % ORDER.length]!;
  if (theme.peek() === "auto") {
    localStorage.removeItem(KEY);
    delete document.documentElement.dataset.theme;
  } else {
    localStorage.setItem(KEY, theme.peek());
    document.documentElement.dataset.theme = theme.peek();
  }
  colors.value++;
}

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  colors.value++;
});

function read(): Theme {
  const kept = localStorage.getItem(KEY);
  return kept === "light" || kept === "dark" ? kept : "auto";
}
