// Who takes part: two to eight names, of which at least one is the model's.

import type { SessionContent, SessionSettings } from "../session/document.js";
import { Icon, IconButton } from "../ui/icon.js";
import { NumberField } from "./fields.js";

interface ParticipantsProps {
  readonly content: SessionContent;
  readonly set: (changes: Partial<SessionContent>) => void;
  readonly setSettings: (changes: Partial<SessionSettings>) => void;
}

const MOST = 8;

export function Participants({ content: { participants, settings, blocks }, set, setSettings }: ParticipantsProps) {
  const change = (index: number, changes: Partial<(typeof participants)[number]>) =>
    set({ participants: participants.map((one, at) => (at === index ? { ...one, ...changes } : one)) });
  /** What was said under the old name is under the new one. */
  const rename = (index: number, name: string) => {
    const old = participants[index]!.name;
    if (name === "" || name === old || participants.some((one) => one.name === name)) return;
    set({
      participants: participants.map((one, at) => (at === index ? { ...one, name } : one)),
      blocks: blocks.map((block) => (block.author === old ? { ...block, author: name } : block)),
    });
  };
  const add = () => {
    let number = participants.length;
    while (participants.some(({ name }) => name === `Voice ${number}`)) number++;
    set({ participants: [...participants, { name: `Voice ${number}`, human: false }] });
  };
  return (
    <section>
      <h3>Voices</h3>
      <ul class="participants">
        {participants.map(({ name, human }, index) => (
          <li key={index}>
            <input
              aria-label={`Name of voice ${index + 1}`}
              value={name}
              maxLength={40}
              onChange={(event) => {
                rename(index, event.currentTarget.value.replace(/[:\n]/g, "").trim());
                event.currentTarget.value = participants[index]!.name;
              }}
            />
            <label class="by">
              <span class="offscreen">Who speaks as {name}</span>
              <select
                value={human ? "you" : "model"}
                onChange={(event) => change(index, { human: event.currentTarget.value === "you" })}
              >
                <option value="you">you</option>
                <option value="model">model</option>
              </select>
            </label>
            <IconButton
              icon="trash"
              label={`Remove ${name}`}
              disabled={participants.length <= 2}
              onClick={() => set({ participants: participants.filter((_, at) => at !== index) })}
            />
          </li>
        ))}
      </ul>
      <button type="button" class="button small" disabled={participants.length >= MOST} onClick={add}>
        <Icon name="plus" /> Add a voice
      </button>
      <NumberField
        label="Turns before it is yours"
        value={settings.turns}
        min={1}
        max={32}
        onChange={(turns) => setSettings({ turns })}
      />
    </section>
  );
}
