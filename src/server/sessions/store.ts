// Sessions as files in one folder: `<id>.json` each, ids made here, so that nothing a person
// types is ever part of a path. Every write is whole or not there (durable-file.ts) and names
// the revision it was made from. Deleted sessions lie in `deleted/` for a month; files that
// cannot be read are moved to `damaged/` and reported, never removed.

import { randomUUID } from "node:crypto";
import { mkdir, readdir, readFile, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import {
  LIMITS,
  readContent,
  readDocument,
  type SessionContent,
  type SessionDocument,
  type SessionSummary,
  summaryOf,
} from "./document.js";
import { moveDurably, UNFINISHED, writeDurably } from "./durable-file.js";
import {
  SessionConflictError,
  SessionInvalidError,
  SessionLimitError,
  SessionNotFoundError,
  SessionTooLargeError,
  SessionVersionError,
} from "./errors.js";

const ID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

/** Sessions of one folder. */
const MOST_SESSIONS = 10_000;

/** Deleted sessions can be taken back for so long, ms. */
const KEEP_DELETED_MS = 30 * 24 * 3600_000;

/** An unfinished file older than this was left by a process that is gone, ms. */
const ABANDONED_MS = 60_000;

export interface SessionProblem {
  readonly file: string;
  readonly reason: string;
}

export interface SessionList {
  /** Newest first. */
  readonly sessions: readonly SessionSummary[];
  readonly problems: readonly SessionProblem[];
}

interface Known {
  readonly modified: number;
  readonly bytes: number;
  readonly summary: SessionSummary;
}

export class SessionStore {
  readonly folder: string;
  readonly #known = new Map<string, Known>();
  readonly #problems = new Map<string, string>();
  /** The newest write of each session; the next waits for it. */
  readonly #writing = new Map<string, Promise<unknown>>();

  private constructor(folder: string) {
    this.folder = folder;
  }

  /** Makes the folder where it is missing, and clears what unfinished writes have left. */
  static async open(folder: string): Promise<SessionStore> {
    for (const name of ["", "deleted", "damaged"]) await mkdir(join(folder, name), { recursive: true, mode: 0o700 });
    const store = new SessionStore(folder);
    await store.#clear();
    return store;
  }

  /** @param query words that must all occur in a session's title or texts, in any case; empty: all sessions */
  async list(query = ""): Promise<SessionList> {
    await this.#look();
    const words = query.toLowerCase().split(/\s+/).filter(Boolean);
    const all = [...this.#known.values()].map(({ summary }) => summary);
    const sessions: SessionSummary[] = [];
    for (const summary of all) if (words.length === 0 || (await this.#contains(summary.id, words))) sessions.push(summary);
    sessions.sort((a, b) => (a.updated < b.updated ? 1 : a.updated > b.updated ? -1 : a.id < b.id ? -1 : 1));
    return { sessions, problems: [...this.#problems].map(([file, reason]) => ({ file, reason })) };
  }

  /** @throws {SessionInvalidError | SessionTooLargeError | SessionLimitError} */
  async create(value: unknown): Promise<SessionDocument> {
    if ((await this.#ids()).size >= MOST_SESSIONS) throw new SessionLimitError(MOST_SESSIONS);
    const now = new Date().toISOString();
    return this.#save(documentOf(readContent(value), randomUUID(), 1, now, now));
  }

  /** @throws {SessionNotFoundError} also for an id that is none */
  async read(id: string): Promise<SessionDocument> {
    const path = this.#path(id);
    const text = await readFile(path, "utf8").catch((error: NodeJS.ErrnoException) => {
      if (error.code === "ENOENT") throw new SessionNotFoundError(id);
      throw error;
    });
    try {
      return documentFrom(text, id);
    } catch (error) {
      await this.#reportDamage(id, error);
      throw new SessionNotFoundError(id);
    }
  }

  /**
   * Replaces a session's contents.
   *
   * @param revision the one that the new contents were made from
   * @throws {SessionConflictError} when the file has another one; nothing is written then
   */
  async write(id: string, revision: number, value: unknown): Promise<SessionDocument> {
    const content = readContent(value);
    return this.#alone(id, async () => {
      const current = await this.read(id);
      if (current.revision !== revision) throw new SessionConflictError(revision, current);
      return this.#save(documentOf(content, id, revision + 1, current.created, new Date().toISOString()));
    });
  }

  /** Moves a session to `deleted/`. */
  async remove(id: string): Promise<void> {
    await this.#alone(id, async () => {
      await this.read(id);
      await moveDurably(this.#path(id), join(this.folder, "deleted", `${id}.json`));
      this.#known.delete(id);
    });
  }

  /** Takes a deletion back. */
  async restore(id: string): Promise<SessionDocument> {
    const path = this.#path(id);
    return this.#alone(id, async () => {
      await moveDurably(join(this.folder, "deleted", `${id}.json`), path).catch((error: NodeJS.ErrnoException) => {
        if (error.code === "ENOENT") throw new SessionNotFoundError(id);
        throw error;
      });
      const document = await this.read(id);
      await this.#note(id, document);
      return document;
    });
  }

  /** Resolves when every write that has begun is on the disk. */
  async close(): Promise<void> {
    await Promise.allSettled(this.#writing.values());
  }

  async #save(document: SessionDocument): Promise<SessionDocument> {
    const text = JSON.stringify(document);
    const bytes = Buffer.byteLength(text);
    if (bytes > LIMITS.bytes) throw new SessionTooLargeError(bytes, LIMITS.bytes);
    await writeDurably(this.#path(document.id), text);
    await this.#note(document.id, document);
    return document;
  }

  async #note(id: string, document: SessionDocument): Promise<void> {
    const { mtimeMs, size } = await stat(this.#path(id));
    this.#known.set(id, { modified: mtimeMs, bytes: size, summary: summaryOf(document) });
  }

  /** Brings the list up to what lies in the folder; another server, or a person, may have put files there. */
  async #look(): Promise<void> {
    const ids = await this.#ids();
    for (const id of this.#known.keys()) if (!ids.has(id)) this.#known.delete(id);
    for (const id of ids) await this.#lookAt(id);
    for (const name of await readdir(join(this.folder, "damaged")))
      if (!this.#problems.has(`damaged/${name}`)) this.#problems.set(`damaged/${name}`, "could not be read when it was found");
  }

  async #ids(): Promise<ReadonlySet<string>> {
    const names = (await readdir(this.folder)).filter((name) => name.endsWith(".json") && ID.test(name.slice(0, -5)));
    return new Set(names.map((name) => name.slice(0, -5)));
  }

  async #lookAt(id: string): Promise<void> {
    const path = this.#path(id);
    try {
      const { mtimeMs, size } = await stat(path);
      const known = this.#known.get(id);
      if (known && known.modified === mtimeMs && known.bytes === size) return;
      if (size > 2 * LIMITS.bytes) throw new SessionTooLargeError(size, LIMITS.bytes);
      const summary = summaryOf(documentFrom(await readFile(path, "utf8"), id));
      this.#known.set(id, { modified: mtimeMs, bytes: size, summary });
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "ENOENT") return; // deleted meanwhile
      await this.#reportDamage(id, error);
    }
  }

  /** What is no session is moved aside; what the disk would not give now, or a newer version wrote, stays where it is. */
  async #reportDamage(id: string, error: unknown): Promise<void> {
    const name = `${id}.json`;
    this.#known.delete(id);
    const isDamaged = error instanceof SyntaxError || error instanceof SessionInvalidError;
    if (!isDamaged) {
      this.#problems.set(name, (error as Error).message);
      return;
    }
    const aside = `damaged/${id}-${Date.now()}.json`;
    await moveDurably(join(this.folder, name), join(this.folder, aside));
    this.#problems.set(aside, error.message);
  }

  async #clear(): Promise<void> {
    const now = Date.now();
    const old = async (path: string, age: number) => {
      const { mtimeMs, ctimeMs } = await stat(path); // moving a file is a change, not a modification
      return now - Math.max(mtimeMs, ctimeMs) > age;
    };
    for (const name of await readdir(this.folder)) {
      const path = join(this.folder, name);
      if (name.startsWith(UNFINISHED) && (await old(path, ABANDONED_MS))) await rm(path, { force: true });
    }
    for (const name of await readdir(join(this.folder, "deleted"))) {
      const path = join(this.folder, "deleted", name);
      if (await old(path, KEEP_DELETED_MS)) await rm(path, { force: true });
    }
  }

  async #contains(id: string, words: readonly string[]): Promise<boolean> {
    const session = await this.read(id).catch(() => null);
    if (session === null) return false;
    const texts = [session.title, session.text, session.prompt.text, ...session.blocks.map(({ text }) => text)];
    const whole = texts.join("\n").toLowerCase();
    return words.every((word) => whole.includes(word));
  }

  /** Runs after whatever is being done to the same session. */
  async #alone<T>(id: string, work: () => Promise<T>): Promise<T> {
    const before = this.#writing.get(id) ?? Promise.resolve();
    const now = before.then(work, work);
    this.#writing.set(id, now);
    try {
      return await now;
    } finally {
      if (this.#writing.get(id) === now) this.#writing.delete(id);
    }
  }

  #path(id: string): string {
    if (!ID.test(id)) throw new SessionNotFoundError(id);
    return join(this.folder, `${id}.json`);
  }
}

function documentOf(content: SessionContent, id: string, revision: number, created: string, updated: string): SessionDocument {
  return { format: "exllama-session", version: 1, id, revision, created, updated, ...content };
}

/** The file's name says which session it is, whatever is written inside. */
function documentFrom(text: string, id: string): SessionDocument {
  const value: unknown = JSON.parse(text);
  const { format, version } = Object(value) as { format?: unknown; version?: unknown };
  if (format === "exllama-session" && typeof version === "number" && version > 1) throw new SessionVersionError(id, version);
  return { ...readDocument(value), id };
}
