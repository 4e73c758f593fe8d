// LoRA adapters that were loaded with the model, each with a weight; 0 leaves it out.

import { page } from "../page-data.js";
import type { SessionSettings } from "../session/document.js";
import { Slider } from "./fields.js";

interface AdaptersProps {
  readonly settings: SessionSettings;
  readonly setSettings: (changes: Partial<SessionSettings>) => void;
}

export function Adapters({ settings: { adapters = [] }, setSettings }: AdaptersProps) {
  const loaded = page.value!.info.adapters;
  if (loaded.length === 0) return null;
  const set = (name: string, weight: number) => {
    const others = adapters.filter((one) => one.name !== name);
    setSettings({ adapters: weight === 0 ? others : [...others, { name, weight }] });
  };
  return (
    <section>
      <h3>Adapters</h3>
      {loaded.map(({ name, rank }) => {
        const weight = adapters.find((one) => one.name === name)?.weight ?? 0;
        return (
          <Slider
            key={name}
            label={name}
            value={weight}
            min={0}
            max={2}
            step={0.05}
            hint={weight === 0 ? `LoRA of rank ${rank}; not used` : `LoRA of rank ${rank}`}
            isSet={weight !== 0}
            onChange={(to) => set(name, to)}
            onReset={() => set(name, 0)}
          />
        );
      })}
    </section>
  );
}
