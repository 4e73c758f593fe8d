// One session as this tab works on it: changed here at once, written to the server a moment
// later, and merged where another tab has written in between.

import { signal } from "@preact/signals";
import { ServerError, sendJson } from "../server/http.js";
import { readHead, type SessionContent, type SessionDocument } from "./document.js";
import { lighter } from "./lighter.js";
import { merge } from "./merge.js";
import { keepUnsaved, takeUnsaved } from "./unsaved.js";

/** Quiet time after a change before it is written, ms. */
const QUIET_MS = 400;
const RETRY_MS = 3000;

/**
 * `failed`: tried again in a moment; `refused`: what is here the server does not take; `gone`:
 * it was deleted elsewhere, and what is here can be kept as a new session.
 */
export type SaveState = "saved" | "unsaved" | "saving" | "failed" | "refused" | "gone";

/** Told to the other tabs of this browser. */
export const saves = new BroadcastChannel("exllama.sessions");

export class OpenSession {
  readonly id: string;
  readonly content = signal<SessionContent>(undefined as never);
  readonly saving = signal<SaveState>("saved");
  /** Why the server refused the newest write. */
  readonly refusal = signal("");
  /** Puts into the session what is not in it yet; called before the page is left. */
  onLeave: (() => void) | null = null;
  /** Called after each write. */
  onSaved: (() => void) | null = null;
  #base: SessionContent;
  #revision: number;
  #timer: number | undefined;
  #write: Promise<void> = Promise.resolve();

  constructor(document: SessionDocument) {
    const { content, revision } = readHead(document);
    this.id = document.id;
    this.content.value = content;
    this.#base = content;
    this.#revision = revision;
    const unsaved = takeUnsaved(document.id);
    if (unsaved) this.update(() => merge(unsaved.base, unsaved.content, content));
  }

  /** Changes the session; the change is written soon. */
  update(change: (content: SessionContent) => SessionContent): void {
    const next = change(this.content.peek());
    if (next === this.content.peek()) return;
    this.content.value = next;
    this.#later(QUIET_MS);
  }

  /** Writes what is not yet written. */
  async flush(): Promise<void> {
    window.clearTimeout(this.#timer);
    this.#write = this.#write.then(() => this.#save());
    await this.#write;
  }

  /** The page is being left: what is not yet on the server is kept in this browser. */
  leave(): void {
    this.onLeave?.();
    if (this.content.peek() !== this.#base) keepUnsaved(this.id, { base: this.#base, content: this.content.peek() });
  }

  /** Another tab has written: takes its version over, merged with what is not written here. */
  receive(document: SessionDocument, { conflict = false } = {}): void {
    const { content, revision } = readHead(document);
    if (revision <= this.#revision && !conflict) return;
    const mine = this.content.peek();
    this.content.value = mine === this.#base ? content : merge(this.#base, mine, content);
    this.#base = content;
    this.#revision = revision;
    if (this.content.peek() !== content) this.#later(QUIET_MS);
  }

  #later(milliseconds: number): void {
    if (this.saving.peek() === "saved") this.saving.value = "unsaved";
    window.clearTimeout(this.#timer);
    this.#timer = window.setTimeout(() => void this.flush(), milliseconds);
  }

  async #save(): Promise<void> {
    const content = lighter(this.content.peek());
    if (content === this.#base) {
      this.saving.value = "saved";
      return;
    }
    this.content.value = content;
    this.saving.value = "saving";
    try {
      const response = await sendJson("PUT", `/api/sessions/${this.id}`, content, this.#ifMatch());
      this.#revision = ((await response.json()) as { revision: number }).revision;
      this.#base = content;
      takeUnsaved(this.id); // left behind by a page that came back
      this.saving.value = this.content.peek() === content ? "saved" : "unsaved";
      saves.postMessage({ id: this.id, revision: this.#revision });
      this.onSaved?.();
    } catch (error) {
      if (error instanceof ServerError && error.status === 409) {
        this.receive((error.body as { current: SessionDocument }).current, { conflict: true });
        await this.#save();
        return;
      }
      if (error instanceof ServerError && error.status === 404) {
        this.saving.value = "gone";
        return;
      }
      if (error instanceof ServerError && (error.status === 400 || error.status === 413)) {
        this.refusal.value = error.message;
        this.saving.value = "refused";
        return;
      }
      this.saving.value = "failed";
      this.#later(RETRY_MS);
    }
  }

  #ifMatch(): { headers: Record<string, string> } {
    return { headers: { "if-match": `"${this.#revision}"` } };
  }
}
