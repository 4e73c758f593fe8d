// Where the next message is written. What is half written survives a reload.

import { useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import type { OpenSession } from "../session/open-session.js";
import { GrowingText } from "../ui/growing-text.js";
import { Icon } from "../ui/icon.js";
import { goOn, say, workOf } from "./answering.js";

/** Where fingers write, the keyboard that focus brings would hide half of the page. */
const CAN_HOVER = matchMedia("(hover: hover)").matches;

interface ComposerProps {
  /** Keeps the draft apart from those of other sessions. */
  readonly draftOf: string;
  readonly placeholder: string;
  readonly busy: string | null;
  readonly onSend: (text: string) => void;
  readonly onStop: () => void;
  /** Sending nothing means something. */
  readonly canSendNothing?: boolean;
}

export function Composer({ draftOf, placeholder, busy, onSend, onStop, canSendNothing = false }: ComposerProps) {
  const key = `exllama.draft.${draftOf}`;
  const text = useSignal(sessionStorage.getItem(key) ?? "");
  useEffect(() => {
    text.value = sessionStorage.getItem(key) ?? "";
  }, [key]);
  const write = (value: string) => {
    text.value = value;
    if (value === "") sessionStorage.removeItem(key);
    else sessionStorage.setItem(key, value);
  };
  const send = () => {
    const said = text.peek();
    if (busy !== null || (said.trim() === "" && !canSendNothing)) return;
    write("");
    onSend(said);
  };
  const onKeyDown = (event: KeyboardEvent) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    send();
  };
  return (
    <form
      class="composer"
      aria-label="Write a message"
      onSubmit={(event) => {
        event.preventDefault();
        send();
      }}
    >
      <GrowingText
        label="Message"
        value={text.value}
        placeholder={placeholder}
        focus={CAN_HOVER}
        onInput={write}
        onKeyDown={onKeyDown}
      />
      {busy === null ? (
        <button
          type="submit"
          class="round primary"
          aria-label="Send"
          title="Send (Enter; Shift+Enter for a new line)"
          disabled={text.value.trim() === "" && !canSendNothing}
        >
          <Icon name="send" />
        </button>
      ) : (
        <button type="button" class="round" aria-label="Stop" title="Stop (Escape)" onClick={onStop}>
          <Icon name="stop" />
        </button>
      )}
    </form>
  );
}

/** The composer of a session. */
export function SessionComposer({ session }: { session: OpenSession }) {
  const work = workOf(session).value;
  const { mode, participants, blocks } = session.content.value;
  const me = participants.find(({ human }) => human)?.name ?? "You";
  const voices = participants.filter(({ human }) => !human);
  return (
    <div class="composer-place">
      {mode === "voices" && (
        <fieldset class="speakers" aria-label="Let somebody speak">
          {voices.map(({ name }) => (
            <button type="button" key={name} class="chip" disabled={work !== null} onClick={() => void goOn(session, name)}>
              {name}
            </button>
          ))}
          {work && work.live === null && <span class="doing">{work.doing} …</span>}
        </fieldset>
      )}
      <Composer
        draftOf={session.id}
        placeholder={mode === "voices" ? `Say something as ${me}` : "Message"}
        busy={work === null ? null : work.doing}
        canSendNothing={mode === "voices" && blocks.length > 0}
        onSend={(text) => void say(session, text)}
        onStop={() => workOf(session).peek()?.stop()}
      />
    </div>
  );
}
