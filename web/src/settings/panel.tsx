// The settings of one session: the fixed prompt, who takes part, how tokens are chosen, and
// what can be done with the session as a whole.

import { focusWhereCovering, toggleSettings } from "../panels.js";
import type { SessionContent, SessionSettings } from "../session/document.js";
import { exportJson, exportMarkdown } from "../session/files.js";
import type { OpenSession } from "../session/open-session.js";
import { removeWithUndo } from "../session/sidebar.js";
import { Icon, IconButton } from "../ui/icon.js";
import { Adapters } from "./adapters.js";
import { Check, NumberField } from "./fields.js";
import { Participants } from "./participants.js";
import { Sampler } from "./sampler.js";
import { StopStrings } from "./stop-strings.js";

export function SettingsPanel({ session }: { session: OpenSession }) {
  const content = session.content.value;
  const { mode, settings } = content;
  const set = (changes: Partial<SessionContent>) => session.update((now) => ({ ...now, ...changes }));
  const setSettings = (changes: Partial<SessionSettings>) =>
    session.update((now) => ({ ...now, settings: { ...now.settings, ...changes } }));
  return (
    <aside class="settings" aria-label="Settings of this session">
      <header class="settings-head">
        <h2>Settings</h2>
        <IconButton icon="close" label="Close the settings" buttonRef={focusWhereCovering} onClick={toggleSettings} />
      </header>
      <section>
        <h3>{mode === "chat" ? "System message" : "Fixed prompt"}</h3>
        <textarea
          class="prompt"
          rows={4}
          aria-label={mode === "chat" ? "System message" : "Fixed prompt"}
          placeholder={mode === "chat" ? "None: the template’s own, if it has one" : "Stands before everything"}
          value={content.prompt.text}
          onInput={(event) => set({ prompt: { ...content.prompt, text: event.currentTarget.value } })}
        />
        <Check
          label="Pinned"
          hint="Stays when the beginning no longer fits; otherwise it rolls away with it."
          checked={content.prompt.pinned}
          onChange={(pinned) => set({ prompt: { ...content.prompt, pinned } })}
        />
      </section>
      {mode === "voices" && <Participants content={content} set={set} setSettings={setSettings} />}
      <section>
        <h3>Length</h3>
        <NumberField
          label="Tokens, at most"
          value={settings.maxTokens}
          min={1}
          max={2 ** 20}
          onChange={(maxTokens) => setSettings({ maxTokens })}
        />
        <Check
          label="Stop at the end of a line"
          checked={settings.stopOnNewline}
          onChange={(stopOnNewline) => setSettings({ stopOnNewline })}
        />
        <StopStrings stop={settings.stop} onChange={(stop) => setSettings({ stop })} />
      </section>
      <Adapters settings={settings} setSettings={setSettings} />
      <Sampler settings={settings} setSettings={setSettings} />
      <section>
        <h3>Shown</h3>
        <Check
          label="Token probabilities"
          hint="The likeliest tokens at each place; rest the pointer on a word to see them."
          checked={settings.probabilities}
          onChange={(probabilities) => setSettings({ probabilities })}
        />
      </section>
      <section>
        <h3>This session</h3>
        <div class="button-row">
          <button type="button" class="button small" onClick={() => exportJson(session.content.peek())}>
            <Icon name="download" /> Export
          </button>
          <button type="button" class="button small" onClick={() => exportMarkdown(session.content.peek())}>
            <Icon name="download" /> As Markdown
          </button>
          <button
            type="button"
            class="button small danger"
            onClick={() => void removeWithUndo(session.id, content.title || "Untitled")}
          >
            <Icon name="trash" /> Delete
          </button>
        </div>
      </section>
    </aside>
  );
}
