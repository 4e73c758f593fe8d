// A text area as high as what is in it, up to what the style sheet allows.

import { useLayoutEffect, useRef } from "preact/hooks";

interface GrowingTextProps {
  readonly label: string;
  readonly value: string;
  readonly placeholder?: string;
  readonly focus?: boolean;
  readonly readOnly?: boolean;
  readonly class?: string;
  readonly onInput: (value: string) => void;
  readonly onKeyDown?: (event: KeyboardEvent) => void;
}

export function GrowingText({
  label,
  value,
  placeholder,
  focus = false,
  readOnly,
  class: extra = "",
  onInput,
  onKeyDown,
}: GrowingTextProps) {
  const area = useRef<HTMLTextAreaElement>(null);
  const grow = () => {
    const element = area.current!;
    element.style.height = "auto";
    element.style.height = `${element.scrollHeight + 2}px`;
  };
  useLayoutEffect(grow, [value]);
  useLayoutEffect(() => {
    const element = area.current!;
    if (!focus) return;
    element.focus();
    element.setSelectionRange(element.value.length, element.value.length);
  }, [focus]);
  return (
    <textarea
      ref={area}
      class={`growing ${extra}`}
      aria-label={label}
      rows={1}
      placeholder={placeholder}
      readOnly={readOnly}
      value={value}
      onInput={(event) => {
        onInput(event.currentTarget.value);
        grow();
      }}
      onKeyDown={onKeyDown}
    />
  );
}
