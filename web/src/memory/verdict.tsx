// Whether the wishes can be met, and how: fits, with the command line that does it; or refused,
// with what is missing and every change that would do.

import type { Signal } from "@preact/signals";
import type { Plan, PlanRefusal } from "../../../src/memory/plan.js";
import { formatBytes } from "../../../src/plan.js";
import type { PageData } from "../../../src/server/page/api.js";
import { copy } from "../ui/copy.js";
import { Icon } from "../ui/icon.js";
import { RefusedBar } from "./device-bar.js";
import { accept, commandLine, type replan, suggestionText, type Wishes } from "./replan.js";

interface VerdictProps {
  readonly data: PageData;
  readonly wishes: Signal<Wishes>;
  readonly outcome: ReturnType<typeof replan>;
  readonly loaded: Plan;
}

export function Verdict({ data, wishes, outcome, loaded }: VerdictProps) {
  if (typeof outcome === "string") return <p class="verdict bad">{outcome}</p>;
  if (!outcome.ok) return <Refused refusal={outcome} wishes={wishes} />;
  const command = commandLine(data.command, data.planning, wishes.value);
  return (
    <>
      <p class="verdict good" role="status">
        <Icon name="check" />
        <span>
          <b>Fits.</b> {difference(outcome, loaded)}
        </span>
      </p>
      <div class="command">
        <code>{command}</code>
        <button type="button" class="button quiet small" onClick={() => void copy(command)}>
          <Icon name="copy" /> Copy
        </button>
      </div>
    </>
  );
}

function Refused({ refusal, wishes }: { refusal: PlanRefusal; wishes: Signal<Wishes> }) {
  return (
    <>
      <p class="verdict bad" role="status">
        <Icon name="close" />
        <span>
          <b>Refused.</b> {refusal.message}.
        </span>
      </p>
      {refusal.suggestions.length > 0 && (
        <fieldset class="suggestions" aria-label="What would fit">
          <span>Would fit:</span>
          {refusal.suggestions.map((suggestion) => {
            const text = suggestionText(suggestion);
            return (
              <button type="button" key={text} class="chip" onClick={() => (wishes.value = accept(wishes.peek(), suggestion))}>
                {text}
              </button>
            );
          })}
        </fieldset>
      )}
      {refusal.devices
        .filter(({ cap, needed }) => cap > 0 || needed > 0)
        .map((device) => (
          <RefusedBar key={device.id} {...device} />
        ))}
    </>
  );
}

function difference(plan: Plan, loaded: Plan): string {
  const total = (one: Plan) => one.devices.reduce((sum, device) => sum + device.total, 0);
  const bytes = total(plan) - total(loaded);
  if (bytes === 0) return "It takes exactly what is taken now.";
  return `It takes ${formatBytes(Math.abs(bytes))} ${bytes < 0 ? "less" : "more"} than what is loaded.`;
}
