// The list of sessions and those that are open in this tab. A session stays open when another
// is shown, so that an answer that is being written goes on.

import { signal } from "@preact/signals";
import { getJson, request, sendJson } from "../server/http.js";
import type { SessionContent, SessionDocument, SessionSummary } from "./document.js";
import { OpenSession, saves } from "./open-session.js";

export interface SessionProblem {
  readonly file: string;
  readonly reason: string;
}

export const summaries = signal<readonly SessionSummary[] | null>(null);
export const problems = signal<readonly SessionProblem[]>([]);
export const query = signal("");
/** The session that is shown; `null`: none is chosen, `undefined`: it is being read. */
export const current = signal<OpenSession | null | undefined>(null);

const open = new Map<string, OpenSession>();

/** Readings of the list: how many were asked for, and the number of the one that is shown. */
let asked = 0;
let shown = 0;

/** Reads the list anew, with the words that are looked for. */
export async function refresh(): Promise<void> {
  const words = query.peek();
  const turn = ++asked;
  const list = await getJson<{ sessions: SessionSummary[]; problems: SessionProblem[] }>(
    `/api/sessions?q=${encodeURIComponent(words)}`,
  );
  if (words !== query.peek() || turn < shown) return; // an older answer
  shown = turn;
  summaries.value = list.sessions;
  problems.value = list.problems;
}

/** Makes a session on the server, and opens it. */
export async function create(content: SessionContent): Promise<OpenSession> {
  const response = await sendJson("POST", "/api/sessions", content);
  const session = opened((await response.json()) as SessionDocument);
  void refresh();
  return session;
}

/** @throws {ServerError} with status 404 for a session that is not there */
export async function openSession(id: string): Promise<OpenSession> {
  return open.get(id) ?? opened(await getJson<SessionDocument>(`/api/sessions/${id}`));
}

export async function rename(id: string, title: string): Promise<void> {
  const session = await openSession(id);
  session.update((content) => ({ ...content, title }));
  await session.flush();
}

/** @returns takes the deletion back */
export async function remove(id: string): Promise<() => Promise<void>> {
  await open.get(id)?.flush();
  await request(`/api/sessions/${id}`, { method: "DELETE" });
  open.delete(id);
  await refresh();
  return async () => {
    await request(`/api/sessions/${id}/restore`, { method: "POST" });
    await refresh();
  };
}

function opened(document: SessionDocument): OpenSession {
  const session = new OpenSession(document);
  session.onSaved = () => void refresh();
  open.set(session.id, session);
  return session;
}

/** Keeps open sessions in step with the other tabs, and writes what is left when the page is left. */
export function watchSessions(): void {
  saves.addEventListener("message", ({ data }: MessageEvent<{ id: string }>) => {
    void refresh();
    const session = open.get(data.id);
    if (session) void getJson<SessionDocument>(`/api/sessions/${data.id}`).then((document) => session.receive(document));
  });
  window.addEventListener("pagehide", () => {
    for (const session of open.values()) session.leave();
  });
}
