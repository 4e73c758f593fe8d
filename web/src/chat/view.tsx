// A session: its head, its conversation or text, and its settings at the side.

import { useEffect, useRef, useState } from "preact/hooks";
import { settingsOpen, toggleSettings, toggleSidebar } from "../panels.js";
import { go } from "../route.js";
import type { OpenSession, SaveState } from "../session/open-session.js";
import { create } from "../session/sessions.js";
import { branchOf } from "../session/tree.js";
import { SettingsPanel } from "../settings/panel.js";
import { Icon, IconButton } from "../ui/icon.js";
import { failures, goOn, workOf } from "./answering.js";
import { Block } from "./block.js";
import { SessionComposer } from "./composer.js";
import { FreeText } from "./free-text.js";

export function ChatView({ session }: { session: OpenSession }) {
  const { mode } = session.content.value;
  return (
    <div class="view with-settings">
      <div class="view-column">
        <Head session={session} />
        {mode === "text" ? <FreeText session={session} /> : <Conversation session={session} />}
      </div>
      {settingsOpen.value && <SettingsPanel session={session} />}
    </div>
  );
}

function Head({ session }: { session: OpenSession }) {
  const { title } = session.content.value;
  const rename = (event: Event) => {
    const value = (event.currentTarget as HTMLInputElement).value.trim();
    session.update((content) => (content.title === value ? content : { ...content, title: value }));
  };
  return (
    <header class="view-head">
      <IconButton icon="menu" label="Sessions" class="only-narrow" onClick={toggleSidebar} />
      <h1 class="title">
        <input aria-label="Title of this session" value={title} placeholder="Untitled" maxLength={200} onChange={rename} />
      </h1>
      <Saving session={session} state={session.saving.value} />
      <IconButton icon="sliders" label="Settings" expanded={settingsOpen.value} onClick={toggleSettings} />
    </header>
  );
}

function Saving({ session, state }: { session: OpenSession; state: SaveState }) {
  if (state === "failed") return <span class="saving bad">Not saved; trying again</span>;
  if (state === "refused") return <span class="saving bad">Not saved: {session.refusal}</span>;
  if (state !== "gone") return null;
  const keep = async () => go({ at: "session", id: (await create(session.content.peek())).id });
  return (
    <span class="saving bad">
      Deleted elsewhere
      <button type="button" class="button quiet small" onClick={() => void keep()}>
        Keep as new
      </button>
    </span>
  );
}

function Conversation({ session }: { session: OpenSession }) {
  const content = session.content.value;
  const branch = branchOf(content);
  const { scroller, follow, toEnd } = useFollowing(session);
  const failure = failures.value?.session === session.id ? failures.value : null;
  const last = branch.at(-1);
  const unanswered = content.mode === "chat" && last?.author === "user" && workOf(session).value === null;
  return (
    <>
      {/* biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls can be scrolled by keyboard */}
      <section class="scroller" ref={scroller} tabIndex={0} aria-label="Conversation">
        <div class="column" role="log" aria-live="off">
          {branch.length === 0 && <Nothing session={session} />}
          {branch.map((block) => (
            <Block key={block.id} session={session} block={block} firstSeen={block.id === content.firstKept} />
          ))}
          {unanswered && (
            <p class="unanswered">
              <button type="button" class="button small" onClick={() => void goOn(session)}>
                <Icon name="again" /> Answer this
              </button>
            </p>
          )}
          {failure && (
            <p class="failure" role="alert">
              {failure.message}
            </p>
          )}
        </div>
      </section>
      {!follow && <IconButton icon="down" label="To the end" class="to-end" onClick={toEnd} />}
      <SessionComposer session={session} />
    </>
  );
}

function Nothing({ session }: { session: OpenSession }) {
  const { mode, participants } = session.content.value;
  const names = participants.filter(({ human }) => !human).map(({ name }) => name);
  return (
    <div class="nothing">
      {mode === "voices" ? (
        <p>
          With {names.join(", ").replace(/, ([^,]*)$/, " and $1")}. Names and the scene are in the{" "}
          <button type="button" class="link" onClick={() => (settingsOpen.value = true)}>
            settings
          </button>
          .
        </p>
      ) : (
        <p>Say something.</p>
      )}
    </div>
  );
}

/** Stays at the end while an answer grows, unless the person has scrolled away. */
function useFollowing(session: OpenSession) {
  const scroller = useRef<HTMLElement>(null);
  const [follow, setFollow] = useState(true);
  const work = workOf(session).value;
  const { leaf } = session.content.value;
  useEffect(() => {
    const element = scroller.current!;
    const onScroll = () => setFollow(element.scrollHeight - element.scrollTop - element.clientHeight < 48);
    element.addEventListener("scroll", onScroll, { passive: true });
    return () => element.removeEventListener("scroll", onScroll);
  }, []);
  const toEnd = () => scroller.current?.scrollTo({ top: scroller.current.scrollHeight });
  useEffect(() => {
    if (follow) toEnd();
  }, [work, leaf]);
  useEffect(() => {
    const onKey = (event: KeyboardEvent) => {
      if (event.key === "Escape" && !event.defaultPrevented) workOf(session).peek()?.stop();
    };
    document.addEventListener("keydown", onKey);
    return () => document.removeEventListener("keydown", onKey);
  }, [session]);
  return { scroller, follow, toEnd };
}
