// The page without a session: write at once, or choose another way to write.

import { page } from "../page-data.js";
import { toggleSidebar } from "../panels.js";
import { go } from "../route.js";
import { newContent } from "../session/content.js";
import type { SessionContent } from "../session/document.js";
import { create } from "../session/sessions.js";
import { Icon, IconButton, type IconName } from "../ui/icon.js";
import { toast } from "../ui/toast.js";
import { say } from "./answering.js";
import { Composer } from "./composer.js";

interface Way {
  readonly icon: IconName;
  readonly name: string;
  readonly text: string;
  readonly content: () => SessionContent;
}

const WAYS: readonly Way[] = [
  { icon: "chat", name: "Chat", text: "Questions and answers, by the model’s own template.", content: () => newContent("chat") },
  {
    icon: "voices",
    name: "Two voices",
    text: "You and a character of your making, line by line.",
    content: () => newContent("voices", 2),
  },
  {
    icon: "voices",
    name: "Round table",
    text: "Up to eight voices; the model finds who speaks next.",
    content: () => newContent("voices", 4),
  },
  {
    icon: "text",
    name: "Free text",
    text: "One text that you and the model write on together.",
    content: () => newContent("text"),
  },
];

export function Start() {
  const chat = page.value?.info.hasChatTemplate ?? true;
  const ways = chat ? WAYS : WAYS.slice(1);
  return (
    <div class="view">
      <header class="view-head">
        <IconButton icon="menu" label="Sessions" class="only-narrow" onClick={toggleSidebar} />
      </header>
      <div class="start">
        <h1>What shall we write?</h1>
        {chat ? (
          <Composer
            draftOf="start"
            placeholder="Message"
            busy={null}
            onSend={(text) => void begin(newContent("chat"), text)}
            onStop={() => {}}
          />
        ) : (
          <p class="hint">This model has no chat template: let voices speak, or write a text together.</p>
        )}
        <ul class="ways">
          {ways.map(({ icon, name, text, content }) => (
            <li key={name}>
              <button type="button" class="way" onClick={() => void begin(content(), null)}>
                <Icon name={icon} />
                <b>{name}</b>
                <span>{text}</span>
              </button>
            </li>
          ))}
        </ul>
      </div>
    </div>
  );
}

async function begin(content: SessionContent, text: string | null): Promise<void> {
  try {
    const session = await create(content);
    go({ at: "session", id: session.id });
    if (text !== null) await say(session, text);
  } catch (error) {
    toast(`The session was not made: ${(error as Error).message}`);
  }
}
