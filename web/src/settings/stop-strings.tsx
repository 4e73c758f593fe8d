// Texts that end an answer. A line end is written \n.

import { useRef } from "preact/hooks";
import { IconButton } from "../ui/icon.js";

interface StopStringsProps {
  readonly stop: readonly string[];
  readonly onChange: (stop: string[]) => void;
}

export function StopStrings({ stop, onChange }: StopStringsProps) {
  const input = useRef<HTMLInputElement>(null);
  const add = () => {
    const text = input.current!.value.replaceAll("\\n", "\n");
    if (text === "" || stop.includes(text) || stop.length >= 16) return;
    input.current!.value = "";
    onChange([...stop, text]);
  };
  return (
    <div class="stops">
      <div class="stop-input">
        <input
          ref={input}
          aria-label="Stop before this text"
          placeholder="Stop before a text"
          maxLength={200}
          onKeyDown={(event) => {
            if (event.key !== "Enter") return;
            event.preventDefault();
            add();
          }}
        />
        <IconButton icon="plus" label="Add this stop text" onClick={add} />
      </div>
      {stop.length > 0 && (
        <ul>
          {stop.map((text) => (
            <li key={text}>
              <code>{text.replaceAll("\n", "\\n")}</code>
              <IconButton
                icon="close"
                label={`Remove the stop text ${text}`}
                onClick={() => onChange(stop.filter((one) => one !== text))}
              />
            </li>
          ))}
        </ul>
      )}
    </div>
  );
}
