// How the next token is chosen. What is not set here is the model's own wish, or ExLlama's
// where the model has none; both are named beside each control.

import { EXLLAMA_DEFAULTS } from "../../../src/generate/defaults.js";
import { page } from "../page-data.js";
import type { SessionSampling, SessionSettings } from "../session/document.js";
import { NumberField, Slider } from "./fields.js";

interface Control {
  readonly name: keyof SessionSampling;
  readonly label: string;
  readonly min: number;
  readonly max: number;
  readonly step: number;
  /** What a value that is not a plain number means. */
  readonly words?: Readonly<Record<number, string>>;
}

const CHOICE: readonly Control[] = [
  { name: "temperature", label: "Temperature", min: 0, max: 2, step: 0.01, words: { 0: "always the likeliest" } },
  { name: "topK", label: "Top-k", min: 0, max: 200, step: 1, words: { 0: "off" } },
  { name: "topP", label: "Top-p", min: 0.01, max: 1, step: 0.01, words: { 1: "off" } },
  { name: "minP", label: "Min-p", min: 0, max: 1, step: 0.01, words: { 0: "off" } },
  { name: "typical", label: "Typical", min: 0, max: 1, step: 0.01, words: { 0: "off", 1: "off" } },
];

const REPETITION: readonly Control[] = [
  { name: "repetitionPenalty", label: "Penalty", min: 1, max: 2, step: 0.01, words: { 1: "off" } },
  { name: "penaltySustain", label: "Sustain, tokens", min: -1, max: 2048, step: 1, words: { "-1": "all" } },
  { name: "penaltyDecay", label: "Decay, tokens", min: 0, max: 2048, step: 1 },
  { name: "frequencyPenalty", label: "Frequency", min: -2, max: 2, step: 0.05, words: { 0: "off" } },
  { name: "presencePenalty", label: "Presence", min: -2, max: 2, step: 0.05, words: { 0: "off" } },
];

interface SamplerProps {
  readonly settings: SessionSettings;
  readonly setSettings: (changes: Partial<SessionSettings>) => void;
}

export function Sampler({ settings, setSettings }: SamplerProps) {
  const own = page.value!.info.sampling;
  const set = (sampling: SessionSampling) => setSettings({ sampling });
  const from = (defaults: Partial<Record<keyof SessionSampling, unknown>>) =>
    Object.fromEntries([...CHOICE, ...REPETITION].map(({ name }) => [name, defaults[name] as number])) as SessionSampling;
  const controls = (list: readonly Control[]) =>
    list.map((control) => <SamplerSlider key={control.name} control={control} sampling={settings.sampling} set={set} />);
  return (
    <>
      <section>
        <h3>Choice of tokens</h3>
        <fieldset class="presets">
          <legend class="offscreen">Presets</legend>
          <button type="button" class="chip" aria-pressed={Object.keys(settings.sampling).length === 0} onClick={() => set({})}>
            {own.source === "ExLlama" ? "Default" : "Model’s own"}
          </button>
          <button type="button" class="chip" onClick={() => set(from(EXLLAMA_DEFAULTS))}>
            ExLlama’s
          </button>
          <button type="button" class="chip" onClick={() => set({ ...settings.sampling, temperature: 0 })}>
            Greedy
          </button>
        </fieldset>
        {controls(CHOICE)}
        <NumberField
          label="Seed"
          value={settings.seed}
          min={0}
          max={2 ** 32 - 1}
          placeholder="random"
          onChange={(seed) => setSettings({ seed })}
          onClear={() => setSettings({ seed: null })}
        />
      </section>
      <section>
        <h3>Against repetition</h3>
        {controls(REPETITION)}
      </section>
    </>
  );
}

function SamplerSlider({
  control,
  sampling,
  set,
}: {
  control: Control;
  sampling: SessionSampling;
  set: (to: SessionSampling) => void;
}) {
  const { name, label, min, max, step, words = {} } = control;
  const { parameters, source } = page.value!.info.sampling;
  const value = sampling[name] ?? (parameters[name] as number);
  const said = (number: number) => (words[number] ? `${number} (${words[number]})` : String(number));
  const exllama = `ExLlama ${said(EXLLAMA_DEFAULTS[name] as number)}`;
  const hint = source === "ExLlama" ? exllama : `Model ${said(parameters[name] as number)} · ${exllama}`;
  const reset = () => {
    const { [name]: _gone, ...rest } = sampling;
    set(rest);
  };
  return (
    <Slider
      {...{ label, min, max, step, value, hint }}
      isSet={sampling[name] !== undefined}
      onChange={(to) => set({ ...sampling, [name]: to })}
      onReset={reset}
    />
  );
}
