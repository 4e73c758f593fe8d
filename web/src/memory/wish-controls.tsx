// What can be turned: context, cache, sequences, chunk, and how much of each device.

import type { Signal } from "@preact/signals";
import type { SplitMode } from "../../../src/memory/plan.js";
import { formatBytes } from "../../../src/plan.js";
import type { PageData } from "../../../src/server/page/api.js";
import { Slider } from "../settings/fields.js";
import { cacheTypesOf, capsOf, freeOn, type Wishes } from "./replan.js";

const STEP = 256;
/** Contexts that are offered where the model names no limit. */
const MOST_CONTEXT = 2 ** 17;
const MOST_SEQUENCES = 64;
const CHUNKS = [64, 128, 256, 512, 1024, 2048, 4096, 8192];
const MiB = 2 ** 20;
const MODES: readonly SplitMode[] = ["fewest", "even", "fill"];

interface WishControlsProps {
  readonly data: PageData;
  readonly wishes: Signal<Wishes>;
  readonly loaded: Wishes;
}

export function WishControls({ data: { planning, plan }, wishes, loaded }: WishControlsProps) {
  const now = wishes.value;
  const set = (changes: Partial<Wishes>) => {
    wishes.value = { ...wishes.peek(), ...changes };
  };
  const most = Math.max(loaded.context, planning.spec.contextLimit ?? MOST_CONTEXT);
  const pool = Math.max(now.cacheTokens ?? 0, now.context);
  const mostPool = Math.max(most * 4, pool);
  const chunk = now.prefillChunk ?? plan.run.prefillChunk;
  const chunks = [...new Set([...CHUNKS, plan.run.prefillChunk])].sort((a, b) => a - b);
  return (
    <div class="wishes">
      <Slider
        label="Context"
        text={`${now.context.toLocaleString("en")} tokens`}
        value={now.context}
        min={STEP}
        max={Math.max(STEP, Math.floor(most / STEP) * STEP)}
        step={STEP}
        isSet={now.context !== loaded.context}
        onChange={(context) =>
          set({ context, ...(now.cacheTokens !== null && now.cacheTokens < context ? { cacheTokens: context } : {}) })
        }
        onReset={() => set({ context: loaded.context, cacheTokens: loaded.cacheTokens })}
      />
      <Choice
        label="KV cache"
        values={cacheTypesOf(planning)}
        value={now.cacheType}
        onChange={(cacheType) => set({ cacheType })}
      />
      <Slider
        label="Cache, all sequences together"
        text={`${pool.toLocaleString("en")} tokens`}
        value={pool}
        min={now.context}
        max={mostPool}
        step={STEP}
        isSet={now.cacheTokens !== loaded.cacheTokens}
        onChange={(cacheTokens) => set({ cacheTokens: cacheTokens <= now.context ? null : cacheTokens })}
        onReset={() => set({ cacheTokens: loaded.cacheTokens })}
      />
      <Slider
        label="Sequences at once"
        text={String(now.maxSequences)}
        value={now.maxSequences}
        min={1}
        max={Math.max(MOST_SEQUENCES, loaded.maxSequences)}
        step={1}
        isSet={now.maxSequences !== loaded.maxSequences}
        onChange={(maxSequences) => set({ maxSequences })}
        onReset={() => set({ maxSequences: loaded.maxSequences })}
      />
      <Slider
        label="Prompt tokens of one step"
        text={now.prefillChunk === null ? "as fits" : `${chunk.toLocaleString("en")} tokens`}
        value={chunks.indexOf(chunk)}
        min={0}
        max={chunks.length - 1}
        step={1}
        isSet={now.prefillChunk !== loaded.prefillChunk}
        onChange={(index) => set({ prefillChunk: chunks[index]! })}
        onReset={() => set({ prefillChunk: loaded.prefillChunk })}
      />
      <Caps {...{ planning, plan, now, loaded, set }} />
      {planning.devices.length > 1 && (
        <Choice label="Layers go" values={MODES} value={now.splitMode} onChange={(splitMode) => set({ splitMode })} />
      )}
    </div>
  );
}

interface CapsProps extends Pick<PageData, "planning" | "plan"> {
  readonly now: Wishes;
  readonly loaded: Wishes;
  readonly set: (changes: Partial<Wishes>) => void;
}

/** The most that may be taken on each device. */
function Caps({ planning, plan, now, loaded, set }: CapsProps) {
  const caps = capsOf(now, planning, plan);
  const total = plan.devices.reduce((sum, device) => sum + device.total, 0) / MiB;
  return (
    <>
      {planning.devices.map((device, index) => {
        const free = Math.floor(freeOn(device) / MiB);
        const cap = Math.floor(caps[index]! / MiB);
        return (
          <Slider
            key={device.id}
            label={`Most on ${device.id}`}
            text={formatBytes(caps[index]!)}
            value={cap}
            min={0}
            max={Math.max(free, cap)}
            step={stepFor(free, total)}
            isSet={now.caps !== loaded.caps}
            hint={
              index === planning.devices.length - 1
                ? `Everything included: ${device.id === "cpu" ? "the engine itself" : "the driver’s own part"}, weights, cache and scratch.`
                : undefined
            }
            onChange={(value) => set({ caps: caps.map((old, at) => (at === index ? value * MiB : old)) })}
            onReset={() => set({ caps: loaded.caps })}
          />
        );
      })}
    </>
  );
}

/** A few hundred steps over the whole, and some thirty over what is taken. */
function stepFor(free: number, taken: number): number {
  return 2 ** Math.max(0, Math.floor(Math.log2(Math.min(free / 512, taken / 32))));
}

interface ChoiceProps<T extends string> {
  readonly label: string;
  readonly values: readonly T[];
  readonly value: T;
  readonly onChange: (value: T) => void;
}

function Choice<T extends string>({ label, values, value, onChange }: ChoiceProps<T>) {
  return (
    <fieldset class="choice">
      <legend>{label}</legend>
      <div class="segments">
        {values.map((one) => (
          <label key={one} class={one === value ? "chosen" : ""}>
            <input type="radio" name={label} value={one} checked={one === value} onChange={() => onChange(one)} />
            {one}
          </label>
        ))}
      </div>
    </fieldset>
  );
}
