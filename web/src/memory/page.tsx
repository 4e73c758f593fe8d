// The memory page: what the plan promised, what is really used, what another plan would be, and
// how the server has been doing.

import { useComputed, useSignal } from "@preact/signals";
import { useMemo } from "preact/hooks";
import type { Plan } from "../../../src/memory/plan.js";
import type { PageData } from "../../../src/server/page/api.js";
import { modelName } from "../model-name.js";
import { toggleSidebar } from "../panels.js";
import { IconButton } from "../ui/icon.js";
import { Charts } from "./charts.js";
import { DeviceBar } from "./device-bar.js";
import { Largest } from "./largest.js";
import { replan, wishesOf } from "./replan.js";
import { latest, useStatus } from "./status.js";
import { Verdict } from "./verdict.js";
import { WishControls } from "./wish-controls.js";

export function MemoryPage({ data }: { data: PageData }) {
  useStatus();
  const { planning, plan } = data;
  const loaded = useMemo(() => wishesOf(planning, plan), [planning, plan]);
  const wishes = useSignal(loaded);
  const changed = JSON.stringify(wishes.value) !== JSON.stringify(loaded);
  const outcome = useComputed(() => replan(planning, wishes.value)).value;
  const other = changed && typeof outcome !== "string" && outcome.ok ? outcome : null;
  return (
    <div class="view memory">
      <header class="view-head">
        <IconButton icon="menu" label="Sessions" class="only-narrow" onClick={toggleSidebar} />
        <h1>Memory</h1>
      </header>
      {/* biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls can be scrolled by keyboard */}
      <section class="memory-scroll" tabIndex={0} aria-label="Memory of the model">
        <div class="memory-column">
          <ModelLine data={data} />
          <div class="memory-grid">
            <section class="card plan-card" aria-labelledby="plan-title">
              <h2 id="plan-title">{changed ? "What would happen" : "The plan, and what is used"}</h2>
              {changed ? <Verdict data={data} wishes={wishes} outcome={outcome} loaded={plan} /> : <LoadedDevices plan={plan} />}
              {other && <OtherDevices plan={other} loaded={plan} />}
              <Largest data={data} outcome={outcome} wishes={wishes} />
            </section>
            <section class="card" aria-labelledby="wishes-title">
              <div class="card-head">
                <h2 id="wishes-title">Try another plan</h2>
                {changed && (
                  <button type="button" class="link" onClick={() => (wishes.value = loaded)}>
                    back to what is loaded
                  </button>
                )}
              </div>
              <WishControls data={data} wishes={wishes} loaded={loaded} />
            </section>
          </div>
          <Charts />
        </div>
      </section>
    </div>
  );
}

function ModelLine({ data: { info, plan } }: { data: PageData }) {
  const facts = [
    info.architecture,
    `${parameters(info.parameters)} parameters`,
    info.quantization,
    info.backend === "cuda" ? "CUDA" : "CPU",
    `context ${plan.context.toLocaleString("en")}`,
  ];
  return (
    <p class="model-facts">
      <code title={info.source}>{modelName(info.source)}</code>
      <span>{facts.join(" · ")}</span>
    </p>
  );
}

function parameters(count: number): string {
  return count < 1e9 ? `${(count / 1e6).toFixed(1)} million` : `${(count / 1e9).toFixed(1)} billion`;
}

function LoadedDevices({ plan }: { plan: Plan }) {
  const status = latest.value;
  const measuredOn = (id: string, card: string) =>
    status?.devices.find((device) => device.id === id || device.id === card)?.measured ?? null;
  return (
    <>
      {plan.devices.map((device) => (
        <DeviceBar key={device.id} device={device} measured={measuredOn(device.id, device.card)} loaded={null} />
      ))}
      {status && (
        <p class="pages">
          <b>{status.pages.total - status.pages.free}</b> of {status.pages.total} cache pages hold tokens · {status.running}{" "}
          running · {status.waiting} waiting · {status.idle} kept for reuse
        </p>
      )}
      <Notes plan={plan} />
    </>
  );
}

function OtherDevices({ plan, loaded }: { plan: Plan; loaded: Plan }) {
  return (
    <>
      {plan.devices.map((device, index) => (
        <DeviceBar key={device.id} device={device} measured={null} loaded={loaded.devices[index] ?? null} />
      ))}
      <Notes plan={plan} />
    </>
  );
}

function Notes({ plan }: { plan: Plan }) {
  return (
    <ul class="notes">
      <li>Limited by {plan.binding}.</li>
      {plan.notes.map((note) => (
        <li key={note}>{note}</li>
      ))}
    </ul>
  );
}
