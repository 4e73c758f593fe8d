// Sessions as files on the person's own disk.

import type { SessionContent, SessionDocument } from "./document.js";
import { create } from "./sessions.js";
import { branchOf } from "./tree.js";

/** The whole session, every branch of it, in the form that importSession() reads. */
export function exportJson(content: SessionContent): void {
  const now = new Date().toISOString();
  const head = {
    format: "exllama-session",
    version: 1,
    id: crypto.randomUUID(),
    revision: 1,
    created: now,
    updated: now,
  } as const;
  const document: SessionDocument = { ...head, ...content };
  download(`${fileName(content)}.json`, "application/json", JSON.stringify(document, null, 1));
}

/** The branch that is shown, to be read. */
export function exportMarkdown(content: SessionContent): void {
  const head = `# ${content.title || "Untitled"}\n\n`;
  const blocks = branchOf(content).map(({ author, text }) => `**${author}**\n\n${text}\n\n`);
  download(`${fileName(content)}.md`, "text/markdown", head + (content.mode === "text" ? content.text : blocks.join("")));
}

/** @returns the id of the new session; @throws what the file or the server has against it */
export async function importSession(file: File): Promise<string> {
  const session = await create(JSON.parse(await file.text()) as SessionContent); // the server checks it
  return session.id;
}

function fileName({ title }: SessionContent): string {
  return (
    title
      .replace(/[^\p{L}\p{N} _-]/gu, "")
      .trim()
      .slice(0, 60) || "session"
  );
}

function download(name: string, type: string, text: string): void {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
