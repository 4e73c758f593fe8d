// A device as a bar: what the plan puts there, part by part, what is left below the cap, and a
// line where the device's measured use is.

import type { DevicePlan } from "../../../src/memory/plan.js";
import { formatBytes } from "../../../src/plan.js";

const PARTS = [
  { key: "weights", name: "weights" },
  { key: "kvCache", name: "KV cache" },
  { key: "scratch", name: "scratch" },
  { key: "baseline", name: "baseline" },
] as const;

/** Below this part of the cap the bar shows only the beginning of the head-room: small parts stay visible. */
const WHOLE_CAP_FROM = 0.25;

interface DeviceBarProps {
  readonly device: DevicePlan;
  /** Bytes that are taken now; `null`: not known, or not what this bar is about. */
  readonly measured: number | null;
  /** The device in the plan that is loaded, where this bar shows another. */
  readonly loaded: DevicePlan | null;
}

export function DeviceBar({ device, measured, loaded }: DeviceBarProps) {
  const { id, cap, total, headroom, layers, excluded } = device;
  if (excluded !== null)
    return (
      <section class="device" aria-label={`Device ${id}`}>
        <h3>{id}</h3>
        <p class="hint">Left out: {excluded}.</p>
      </section>
    );
  const most = Math.max(total, measured ?? 0, loaded?.total ?? 0);
  const cut = most < cap * WHOLE_CAP_FROM;
  const scale = cut ? most * 1.4 : Math.max(cap, most);
  const spelled = PARTS.map(({ key, name }) => `${name} ${formatBytes(device[key])}`).join(", ");
  return (
    <section class="device" aria-label={`Device ${id}`}>
      <header>
        <h3>{id}</h3>
        <span class="device-layers">
          {layers.count === 0
            ? "no layers"
            : layers.count === 1
              ? `layer ${layers.first}`
              : `layers ${layers.first}–${layers.first + layers.count - 1}`}
        </span>
        <span class="device-total">
          <b>{formatBytes(total)}</b> of {formatBytes(cap)}
        </span>
      </header>
      <div class="bar-place">
        <div class={`bar ${cut ? "open-ended" : ""}`} role="img" aria-label={`${spelled}, head-room ${formatBytes(headroom)}`}>
          {PARTS.map(({ key }) => (
            <span key={key} class={`part ${key}`} style={{ width: `${(100 * device[key]) / scale}%` }} />
          ))}
          <span class="part headroom" />
        </div>
        {measured !== null && (
          <div class="live" style={{ left: `${Math.min(100, (100 * measured) / scale)}%` }}>
            <span>now {formatBytes(measured)}</span>
          </div>
        )}
        {loaded && (
          <p class="ghost">
            <span style={{ width: `${Math.min(100, (100 * loaded.total) / scale)}%` }} />
            loaded {formatBytes(loaded.total)}
          </p>
        )}
      </div>
      <dl class="legend">
        {PARTS.map(({ key, name }) => (
          <div key={key} class={key}>
            <dt>{name}</dt>
            <dd>
              {formatBytes(device[key])}
              {loaded && loaded[key] !== device[key] && <span class="change"> {signed(device[key] - loaded[key])}</span>}
            </dd>
          </div>
        ))}
        <div class="headroom">
          <dt>head-room</dt>
          <dd>{formatBytes(headroom)}</dd>
        </div>
      </dl>
    </section>
  );
}

/** A device that the closest placement would overfill. */
export function RefusedBar({ id, cap, needed }: { id: string; cap: number; needed: number }) {
  const scale = Math.max(cap, needed, 1);
  const over = needed > cap;
  return (
    <section class="device" aria-label={`Device ${id}`}>
      <header>
        <h3>{id}</h3>
        <span class="device-total">
          <b>{formatBytes(needed)}</b> needed, {formatBytes(cap)} allowed
        </span>
      </header>
      <div class="bar-place">
        <div class="bar" role="img" aria-label={over ? `${formatBytes(needed - cap)} too much` : "fits"}>
          <span class="part asked" style={{ width: `${(100 * Math.min(needed, cap)) / scale}%` }} />
          {over && <span class="part over" style={{ width: `${(100 * (needed - cap)) / scale}%` }} />}
          <span class="part headroom" />
        </div>
      </div>
      {over && <p class="bad">{formatBytes(needed - cap)} too much</p>}
    </section>
  );
}

function signed(bytes: number): string {
  return `${bytes < 0 ? "−" : "+"}${formatBytes(Math.abs(bytes))}`;
}
