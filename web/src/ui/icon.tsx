// The page's few pictures, drawn as lines on a grid of 24. They are ornament: the button around
// one carries the words.

const PATHS = {
  plus: "M12 5v14M5 12h14",
  search: "M11 18a7 7 0 1 1 0-14 7 7 0 0 1 0 14ZM20 20l-4-4",
  menu: "M4 7h16M4 12h16M4 17h16",
  close: "M6 6l12 12M18 6 6 18",
  send: "M12 19V5M6 11l6-6 6 6",
  stop: "M7 7h10v10H7Z",
  again: "M20 12a8 8 0 1 1-2.6-5.9M20 4v5h-5",
  edit: "M4 20l1-4L16 5l3 3L8 19l-4 1ZM14 7l3 3",
  copy: "M9 9h10v11H9ZM5 15V4h10",
  trash: "M5 7h14M10 7V4h4v3M7 7l1 13h8l1-13M10 11v6M14 11v6",
  cut: "M4 8h16M4 8l3-3M4 8l3 3M7 16h10M12 12v8",
  left: "M14 6l-6 6 6 6",
  right: "M10 6l6 6-6 6",
  sliders: "M4 7h9M17 7h3M4 17h3M11 17h9M15 4.5v5M9 14.5v5",
  memory: "M5 7h14v10H5ZM9 7v10M15 7v10M8 4v3M12 4v3M16 4v3M8 17v3M12 17v3M16 17v3",
  chat: "M4 5h16v11H10l-5 4v-4H4Z",
  voices: "M3 4h12v8H8l-4 3v-3H3ZM17 9h4v8h-1v3l-4-3h-5v-3",
  text: "M5 6h14M5 10h14M5 14h9M5 18h6",
  sun: "M12 16a4 4 0 1 1 0-8 4 4 0 0 1 0 8ZM12 2v2M12 20v2M2 12h2M20 12h2M5 5l1.4 1.4M17.6 17.6 19 19M5 19l1.4-1.4M17.6 6.4 19 5",
  moon: "M20 14.5A8.5 8.5 0 0 1 9.5 4 8.5 8.5 0 1 0 20 14.5Z",
  auto: "M12 20a8 8 0 1 1 0-16v16ZM12 4a8 8 0 0 1 0 16",
  down: "M12 5v14M6 13l6 6 6-6",
  upload: "M12 16V4M7 9l5-5 5 5M5 20h14",
  download: "M12 4v12M7 11l5 5 5-5M5 20h14",
  chart: "M4 20V10M10 20V4M16 20v-8M22 20H2",
  check: "M5 12l5 5 9-10",
  pin: "M9 4h6l-1 6 3 3H7l3-3-1-6ZM12 13v7",
  undo: "M8 5 4 9l4 4M4 9h10a5 5 0 0 1 0 10h-3",
} as const;

export type IconName = keyof typeof PATHS;

export function Icon({ name }: { name: IconName }) {
  return (
    <svg class="icon" viewBox="0 0 24 24" aria-hidden="true" focusable="false">
      <path d={PATHS[name]} />
    </svg>
  );
}

interface IconButtonProps {
  readonly icon: IconName;
  /** What it does: read aloud, and shown when the pointer rests on it. */
  readonly label: string;
  readonly onClick: (event: MouseEvent) => void;
  readonly pressed?: boolean;
  readonly disabled?: boolean;
  readonly class?: string;
  readonly expanded?: boolean;
  readonly buttonRef?: (button: HTMLButtonElement | null) => void;
}

export function IconButton({ icon, label, onClick, pressed, disabled, expanded, buttonRef, class: extra = "" }: IconButtonProps) {
  return (
    <button
      type="button"
      ref={buttonRef}
      class={`icon-button ${extra}`}
      aria-label={label}
      title={label}
      aria-pressed={pressed}
      aria-expanded={expanded}
      disabled={disabled}
      onClick={onClick}
    >
      <Icon name={icon} />
    </button>
  );
}
