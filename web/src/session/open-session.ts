// One session as this tab works on it: changed here at once, written to the server a moment
// later, and merged where another tab has written in between.

import { signal } from "@preact/signals";
import { ServerError, sendJson } from "../server/http.js";
import { readHead, type SessionContent, type SessionDocument } from "./document.js";
import { merge } from "./merge.js";

/** Quiet time after a change before it is written, ms; and most time between writes while changes go on. */
const QUIET_MS = 400;
const RETRY_MS = 3000;

/** A request that is sent while the page is being left may be so large, bytes. */
const LAST_WORDS = 60_000;

/** `gone`: it was deleted elsewhere; what is here can be kept as a new session. */
export type SaveState = "saved" | "unsaved" | "saving" | "failed" | "gone";

/** Told to the other tabs of this browser. */
export const saves = new BroadcastChannel("exllama.sessions");

export class OpenSession {
  readonly id: string;
  readonly content = signal<SessionContent>(undefined as never);
  readonly saving = signal<SaveState>("saved");
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

  /** The page is being left: what fits into a request that outlives it is sent. */
  lastWords(): void {
    if (this.content.peek() === this.#base) return;
    const body = JSON.stringify(this.content.peek());
    if (body.length > LAST_WORDS) return;
    void sendJson("PUT", `/api/sessions/${this.id}`, this.content.peek(), { ...this.#ifMatch(), keepalive: true }).catch(
      () => {},
    );
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
    const content = this.content.peek();
    if (content === this.#base) {
      this.saving.value = "saved";
      return;
    }
    this.saving.value = "saving";
    try {
      const response = await sendJson("PUT", `/api/sessions/${this.id}`, content, this.#ifMatch());
      this.#revision = ((await response.json()) as { revision: number }).revision;
      this.#base = content;
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
      this.saving.value = "failed";
      this.#later(RETRY_MS);
    }
  }

  #ifMatch(): { headers: Record<string, string> } {
    return { headers: { "if-match": `"${this.#revision}"` } };
  }
}
