// The page's frame: sessions at the side, one view, and what lies over them.

import { useEffect } from "preact/hooks";
import { Start } from "./chat/start.js";
import { TokenPopover } from "./chat/token-popover.js";
import { ChatView } from "./chat/view.js";
import { MemoryPage } from "./memory/page.js";
import { loadPage, page, pageProblem } from "./page-data.js";
import { closePanels, settingsOpen, sidebarOpen } from "./panels.js";
import { go, route } from "./route.js";
import { current, openSession } from "./session/sessions.js";
import { Sidebar } from "./session/sidebar.js";
import { announcement } from "./ui/announce.js";
import { Icon } from "./ui/icon.js";
import { KeyDialog } from "./ui/key-dialog.js";
import { Toasts, toast } from "./ui/toast.js";

export function App() {
  useSessionOfRoute();
  useEffect(() => {
    const onKey = (event: KeyboardEvent) => {
      if (event.key === "Escape" && !event.defaultPrevented) closePanels();
    };
    document.addEventListener("keydown", onKey);
    return () => document.removeEventListener("keydown", onKey);
  }, []);
  const covered = sidebarOpen.value || settingsOpen.value;
  return (
    <>
      {/* biome-ignore lint/a11y/useValidAnchor: a link to a place in the page, whose address belongs to the route */}
      <a class="skip" href="#main" onClick={focusMain}>
        Skip to the conversation
      </a>
      <div class="frame">
        <Sidebar />
        {covered && <button type="button" class="backdrop" aria-label="Close the panel" onClick={closePanels} />}
        <main id="main" tabIndex={-1} class="main">
          <View />
        </main>
      </div>
      <TokenPopover />
      <Toasts />
      <KeyDialog />
      <div class="offscreen" role="status" aria-live="polite">
        {announcement}
      </div>
    </>
  );
}

function View() {
  const at = route.value.at;
  if (pageProblem.value !== null) return <Unreachable reason={pageProblem.value} />;
  if (page.value === null) return <p class="waiting">Reading the model’s plan …</p>;
  if (at === "memory") return <MemoryPage data={page.value} />;
  if (at === "start") return <Start />;
  const session = current.value;
  return session ? <ChatView key={session.id} session={session} /> : <p class="waiting">Opening …</p>;
}

function Unreachable({ reason }: { reason: string }) {
  return (
    <div class="empty">
      <h1>The server does not answer</h1>
      <p>{reason}</p>
      <button type="button" class="button primary" onClick={() => void loadPage()}>
        <Icon name="again" /> Try again
      </button>
    </div>
  );
}

function useSessionOfRoute() {
  const target = route.value;
  const id = target.at === "session" ? target.id : null;
  useEffect(() => {
    closePanels();
    if (id === null) {
      current.value = null;
      return;
    }
    if (current.peek()?.id === id) return;
    current.value = undefined;
    let latest = true;
    openSession(id).then(
      (session) => {
        if (latest) current.value = session;
      },
      (error: Error) => {
        if (!latest) return;
        toast(error.message);
        go({ at: "start" });
      },
    );
    return () => {
      latest = false;
    };
  }, [id]);
}

/** The address after `#` belongs to the route. */
function focusMain(event: MouseEvent) {
  event.preventDefault();
  document.getElementById("main")?.focus();
}
