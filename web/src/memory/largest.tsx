// The longest context that would fit, for each type of cache; a click tries it.

import type { Signal } from "@preact/signals";
import type { CacheType } from "../../../src/memory/packing.js";
import type { Plan, PlanRefusal } from "../../../src/memory/plan.js";
import type { PageData } from "../../../src/server/page/api.js";
import { cacheTypesOf, type Wishes } from "./replan.js";

interface LargestProps {
  readonly data: PageData;
  readonly outcome: Plan | PlanRefusal | string;
  readonly wishes: Signal<Wishes>;
}

export function Largest({ data: { planning }, outcome, wishes }: LargestProps) {
  if (typeof outcome === "string") return null;
  const limit = planning.spec.contextLimit ?? Number.POSITIVE_INFINITY;
  const offers = cacheTypesOf(planning).flatMap((type) => {
    const fits = type === "f32" ? 0 : outcome.largestContext[type];
    return fits === 0 ? [] : [{ type, context: Math.min(fits, limit) }];
  });
  if (offers.length === 0) return null;
  const take = (cacheType: CacheType, context: number) => {
    wishes.value = { ...wishes.peek(), cacheType, context, cacheTokens: null };
  };
  return (
    <fieldset class="suggestions" aria-label="Longest contexts">
      <span>Longest context:</span>
      {offers.map(({ type, context }) => (
        <button type="button" key={type} class="chip" onClick={() => take(type, context)}>
          {type} · {context.toLocaleString("en")}
          {context === limit ? " (the model’s limit)" : ""}
        </button>
      ))}
    </fieldset>
  );
}
