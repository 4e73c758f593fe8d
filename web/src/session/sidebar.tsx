// Sessions: new, search, rename, delete with a way back, import. And the way to the other page.

import { useEffect, useRef, useState } from "preact/hooks";
import { modelName } from "../model-name.js";
import { page } from "../page-data.js";
import { focusWhereCovering, sidebarOpen, toggleSidebar } from "../panels.js";
import { go, linkTo, route } from "../route.js";
import { Icon, IconButton } from "../ui/icon.js";
import { nextTheme, theme } from "../ui/theme.js";
import { toast } from "../ui/toast.js";
import type { SessionSummary } from "./document.js";
import { importSession } from "./files.js";
import { problems, query, refresh, remove, rename, summaries } from "./sessions.js";

export function Sidebar() {
  const at = route.value.at;
  const close = useRef<HTMLButtonElement>(null);
  const open = sidebarOpen.value;
  useEffect(() => {
    if (open) focusWhereCovering(close.current);
  }, [open]);
  return (
    <aside class={`sidebar ${open ? "open" : ""}`} aria-label="Sessions">
      <header class="brand">
        <a href={linkTo({ at: "start" })} class="brand-name">
          <span class="mark" aria-hidden="true" />
          exllama
        </a>
        <IconButton
          icon="close"
          label="Close the list of sessions"
          class="only-narrow"
          buttonRef={(button) => (close.current = button)}
          onClick={toggleSidebar}
        />
      </header>
      <a class="button new-session" href={linkTo({ at: "start" })} aria-current={at === "start" ? "page" : undefined}>
        <Icon name="plus" /> New session
      </a>
      <Search />
      <nav class="session-list" aria-label="Your sessions">
        <SessionList />
      </nav>
      <footer class="sidebar-foot">
        <a class="foot-link" href={linkTo({ at: "memory" })} aria-current={at === "memory" ? "page" : undefined}>
          <Icon name="memory" /> Memory
        </a>
        <ImportButton />
        <IconButton
          icon={theme.value === "light" ? "sun" : theme.value === "dark" ? "moon" : "auto"}
          label={`Colours: ${theme.value === "auto" ? "as the system" : theme.value}. Change`}
          onClick={nextTheme}
        />
      </footer>
      {page.value && (
        <p class="model-line">
          {modelName(page.value.info.source)} · {page.value.info.quantization}
        </p>
      )}
    </aside>
  );
}

function Search() {
  const timer = useRef(0);
  const onInput = (event: InputEvent) => {
    query.value = (event.currentTarget as HTMLInputElement).value;
    window.clearTimeout(timer.current);
    timer.current = window.setTimeout(() => void refresh(), 200);
  };
  return (
    <search class="search">
      <Icon name="search" />
      <input type="search" aria-label="Search sessions" placeholder="Search" value={query} onInput={onInput} />
    </search>
  );
}

function SessionList() {
  const list = summaries.value;
  if (list === null) return null;
  const shown = route.value.at === "session" ? route.value.id : null;
  return (
    <>
      {list.length === 0 && <p class="hint">{query.value ? "Nothing found." : "Sessions appear here."}</p>}
      <ul>
        {list.map((summary) => (
          <SessionRow key={summary.id} summary={summary} active={summary.id === shown} />
        ))}
      </ul>
      {problems.value.length > 0 && (
        <details class="problems">
          <summary>{problems.value.length === 1 ? "One file" : `${problems.value.length} files`} could not be read</summary>
          <ul>
            {problems.value.map(({ file, reason }) => (
              <li key={file}>
                <code>{file}</code> {reason}
              </li>
            ))}
          </ul>
          <p>Nothing was deleted: they lie in the sessions folder.</p>
        </details>
      )}
    </>
  );
}

function SessionRow({ summary, active }: { summary: SessionSummary; active: boolean }) {
  const [renaming, setRenaming] = useState(false);
  const title = summary.title || "Untitled";
  if (renaming) return <RenameRow summary={summary} done={() => setRenaming(false)} />;
  return (
    <li class={`session-row ${active ? "active" : ""}`}>
      <a href={linkTo({ at: "session", id: summary.id })} aria-current={active ? "page" : undefined}>
        <Icon name={summary.mode} />
        <span class="session-title">{title}</span>
      </a>
      <span class="row-actions">
        <IconButton icon="edit" label={`Rename “${title}”`} onClick={() => setRenaming(true)} />
        <IconButton icon="trash" label={`Delete “${title}”`} onClick={() => void removeWithUndo(summary.id, title)} />
      </span>
    </li>
  );
}

function RenameRow({ summary, done }: { summary: SessionSummary; done: () => void }) {
  const save = async (title: string) => {
    done();
    if (title.trim() !== summary.title) await rename(summary.id, title.trim().slice(0, 200));
  };
  const onKeyDown = (event: KeyboardEvent) => {
    if (event.key === "Enter") void save((event.currentTarget as HTMLInputElement).value);
    if (event.key !== "Escape") return;
    event.preventDefault();
    done();
  };
  return (
    <li class="session-row">
      <input
        class="rename"
        aria-label="New title"
        value={summary.title}
        maxLength={200}
        ref={(input) => input?.focus()}
        onKeyDown={onKeyDown}
        onBlur={(event) => void save((event.currentTarget as HTMLInputElement).value)}
      />
    </li>
  );
}

export async function removeWithUndo(id: string, title: string): Promise<void> {
  const undo = await remove(id);
  const wasShown = route.peek().at === "session" && (route.peek() as { id: string }).id === id;
  if (wasShown) go({ at: "start" });
  toast(`“${title}” was deleted.`, () => void undo().then(() => wasShown && go({ at: "session", id })));
}

function ImportButton() {
  const input = useRef<HTMLInputElement>(null);
  const onChange = async () => {
    const file = input.current?.files?.[0];
    if (!file) return;
    try {
      go({ at: "session", id: await importSession(file) });
    } catch (error) {
      toast(`The file was not imported: ${(error as Error).message}`);
    }
    input.current!.value = "";
  };
  return (
    <>
      <IconButton icon="upload" label="Import a session" onClick={() => input.current?.click()} />
      <input
        ref={input}
        type="file"
        accept="application/json,.json"
        hidden
        onChange={() => void onChange()}
        aria-label="Session file"
      />
    </>
  );
}
