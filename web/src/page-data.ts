// What the server says of itself, read once: the model, its plan, and what the plan was made from.

import { signal } from "@preact/signals";
import type { PageData } from "../../src/server/page/api.js";
import { getJson } from "./server/http.js";

export const page = signal<PageData | null>(null);
/** Why there is none, where there is none. */
export const pageProblem = signal<string | null>(null);

export async function loadPage(): Promise<void> {
  try {
    page.value = await getJson<PageData>("/api/page");
    pageProblem.value = null;
  } catch (error) {
    pageProblem.value = (error as Error).message;
  }
}
