// A block's text while it is being changed. Saving changes it in place; sending a message anew
// puts the changed one beside it, on a branch of its own.

import { useRef } from "preact/hooks";
import { GrowingText } from "../ui/growing-text.js";

interface EditorProps {
  readonly text: string;
  readonly canAnswer: boolean;
  readonly onSave: (text: string) => void;
  readonly onSend: (text: string) => void;
  readonly onCancel: () => void;
}

export function BlockEditor({ text, canAnswer, onSave, onSend, onCancel }: EditorProps) {
  const value = useRef(text);
  const onKeyDown = (event: KeyboardEvent) => {
    if (event.key === "Escape") {
      event.preventDefault();
      onCancel();
    }
    if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey)) return;
    event.preventDefault();
    if (canAnswer) onSend(value.current);
    else onSave(value.current);
  };
  return (
    <div class="editor">
      <GrowingText
        label="Text"
        value={text}
        focus
        onInput={(changed) => {
          value.current = changed;
        }}
        onKeyDown={onKeyDown}
      />
      <div class="editor-actions">
        {canAnswer && (
          <button type="button" class="button primary small" onClick={() => onSend(value.current)}>
            Send as new version
          </button>
        )}
        <button type="button" class={`button small ${canAnswer ? "" : "primary"}`} onClick={() => onSave(value.current)}>
          Save
        </button>
        <button type="button" class="button quiet small" onClick={onCancel}>
          Cancel
        </button>
      </div>
    </div>
  );
}
