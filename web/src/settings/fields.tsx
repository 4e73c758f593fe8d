// The few kinds of controls that the settings are made of.

import { useId } from "preact/hooks";

interface CheckProps {
  readonly label: string;
  readonly hint?: string;
  readonly checked: boolean;
  readonly onChange: (checked: boolean) => void;
}

export function Check({ label, hint, checked, onChange }: CheckProps) {
  const id = useId();
  return (
    <div class="check">
      <input
        type="checkbox"
        id={id}
        checked={checked}
        aria-describedby={hint ? `${id}-hint` : undefined}
        onChange={(event) => onChange(event.currentTarget.checked)}
      />
      <label for={id}>{label}</label>
      {hint && (
        <p class="hint" id={`${id}-hint`}>
          {hint}
        </p>
      )}
    </div>
  );
}

interface NumberFieldProps {
  readonly label: string;
  readonly value: number | null;
  readonly min: number;
  readonly max: number;
  readonly placeholder?: string;
  readonly onChange: (value: number) => void;
  /** Emptying the field means something. */
  readonly onClear?: () => void;
}

/** A whole number; what is not one is not taken over. */
export function NumberField({ label, value, min, max, placeholder, onChange, onClear }: NumberFieldProps) {
  const id = useId();
  const onInput = (event: Event) => {
    const { value: text } = event.currentTarget as HTMLInputElement;
    if (text === "") onClear?.();
    else if (Number.isInteger(Number(text)) && Number(text) >= min && Number(text) <= max) onChange(Number(text));
  };
  return (
    <div class="number-field">
      <label for={id}>{label}</label>
      <input
        id={id}
        type="number"
        inputMode="numeric"
        min={min}
        max={max}
        step={1}
        placeholder={placeholder}
        value={value ?? ""}
        onInput={onInput}
      />
    </div>
  );
}

interface SliderProps {
  readonly label: string;
  /** What is in force. */
  readonly value: number;
  readonly min: number;
  readonly max: number;
  readonly step: number;
  readonly hint?: string;
  /** How the value reads: `4,096 tokens`; default: the number. */
  readonly text?: string;
  /** Something else than the default is set; a button takes it back. */
  readonly isSet?: boolean;
  readonly onChange: (value: number) => void;
  readonly onReset?: () => void;
}

export function Slider({ label, value, min, max, step, hint, text, isSet = false, onChange, onReset }: SliderProps) {
  const id = useId();
  const share = max > min ? Math.max(0, Math.min(1, (value - min) / (max - min))) : 0;
  return (
    <div class={`slider ${isSet ? "is-set" : ""}`}>
      <div class="slider-head">
        <label for={id}>{label}</label>
        {isSet && onReset && (
          <button type="button" class="link small" aria-label={`reset ${label}`} onClick={onReset}>
            reset
          </button>
        )}
        {text === undefined ? (
          <input
            class="slider-number"
            type="number"
            aria-label={`${label}, number`}
            min={min}
            max={max}
            step={step}
            value={value}
            onChange={(event) => {
              const typed = Number(event.currentTarget.value);
              if (event.currentTarget.value !== "" && typed >= min && typed <= max) onChange(typed);
              else event.currentTarget.value = String(value);
            }}
          />
        ) : (
          <output for={id}>{text}</output>
        )}
      </div>
      <input
        id={id}
        type="range"
        min={min}
        max={max}
        step={step}
        value={value}
        aria-valuetext={text}
        aria-describedby={hint ? `${id}-hint` : undefined}
        style={{ "--share": share }}
        onInput={(event) => onChange(Number(event.currentTarget.value))}
      />
      {hint && (
        <p class="hint" id={`${id}-hint`}>
          {hint}
        </p>
      )}
    </div>
  );
}
