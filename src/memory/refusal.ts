// Why there is no plan, in numbers: the placement that comes closest, its worst device, and the
// smallest changes that would do, each of them tried before it is offered.
//
//   PLAN_DOES_NOT_FIT               the caps, all placements tried, do not hold model and context
//   PLAN_NO_DEVICE                  no cap exceeds what the driver takes before anything is placed
//   PLAN_CAP_EXCEEDS_FREE           a cap promises memory that others have
//   PLAN_MEMORY_TAKEN               free when planned, taken when loading (recheck.ts)
//   PLAN_CONTEXT_ABOVE_MODEL_LIMIT  longer than the model is made for, without RoPE scaling
//   PLAN_CACHE_TYPE                 the backend does not run this KV cache type
//   PLAN_ARENA_TOO_SMALL            one layer, its cache and scratch exceed what one memory may be

import type { Fitting } from "./fitting.js";
import type { Packing, RunShape } from "./packing.js";
import { place } from "./placement.js";
import type { PlacementEntry } from "./placement-problem.js";
import type { PlanDevice, PlanRefusal, PlanSuggestion } from "./plan.js";
import { formatBytes, MiB, roundUp } from "./size.js";

export type LargestContext = PlanRefusal["largestContext"];

/** A refusal; by default one that names no device. */
export function refuse(
  code: string,
  message: string,
  figures: Partial<PlanRefusal> & Pick<PlanRefusal, "largestContext">,
): PlanRefusal {
  const none = { device: null, cap: null, needed: null, shortfall: null, suggestions: [], devices: [] };
  return { ok: false, code, message, ...none, ...figures };
}

export interface Shortage {
  readonly fitting: Fitting;
  readonly packing: Packing;
  /** Entry n of `entries` and `limits` is device n; later devices take no part. */
  readonly devices: readonly PlanDevice[];
  readonly entries: readonly PlacementEntry[];
  /** How far each cap could be raised. */
  readonly limits: readonly number[];
  readonly run: RunShape;
  /** Longest context that the request's other figures allow. */
  readonly mostContext: number;
  readonly largestContext: LargestContext;
}

/** The refusal for a run shape that no placement holds. */
export function refuseShortage(shortage: Shortage): PlanRefusal {
  const { fitting, devices, entries, run, largestContext } = shortage;
  const usable = entries.some((entry) => entry.cap > entry.baseline);
  const closest = place(fitting.problem(run, usable ? entries : lifted(entries)), "closest");
  if (!closest) return refuseArena(shortage);
  const worst = worstOvershoot(closest.use, entries);
  const { cap, baseline } = entries[worst]!;
  const needed = closest.use[worst]!;
  const suggestions = [...contextSuggestion(shortage), ...cacheSuggestions(shortage), ...splitSuggestion(shortage, usable)];
  const { id } = devices[worst]!;
  const short = `${formatBytes(needed - cap)} (${needed - cap} bytes) short`;
  const why = usable
    ? `${described(run)} does not fit: at best ${id} needs ${formatBytes(needed)} of a cap of ${formatBytes(cap)}, ${short}`
    : `no device can be used: no cap exceeds what is taken before anything is placed (${formatBytes(baseline)} on ${id}); ` +
      `${described(run)} needs ${formatBytes(needed)} there, the cap is ${formatBytes(cap)}, ${short}`;
  return refuse(usable ? "PLAN_DOES_NOT_FIT" : "PLAN_NO_DEVICE", why, {
    device: id,
    cap,
    needed,
    shortfall: needed - cap,
    suggestions,
    largestContext,
    devices: devices.map((device, n) => ({ id: device.id, cap: entries[n]?.cap ?? 0, needed: closest.use[n] ?? 0 })),
  });
}

/** Index of the used entry that exceeds its cap by most. */
export function worstOvershoot(use: readonly number[], entries: readonly PlacementEntry[]): number {
  const overshoot = (n: number) => (use[n]! > 0 ? use[n]! - entries[n]!.cap : Number.NEGATIVE_INFINITY);
  let worst = 0;
  for (const n of entries.keys()) if (overshoot(n) > overshoot(worst)) worst = n;
  return worst;
}

function refuseArena(shortage: Shortage): PlanRefusal {
  const most = formatBytes(shortage.packing.maxArena);
  const suggestions = [...contextSuggestion(shortage), ...cacheSuggestions(shortage)];
  const why = `${described(shortage.run)} makes one layer larger than one memory may be (${most})`;
  return refuse("PLAN_ARENA_TOO_SMALL", why, {
    suggestions,
    largestContext: shortage.largestContext,
  });
}

function described({ context, cacheType, cacheTokens }: RunShape): string {
  const pool = cacheTokens > context + 255 ? ` and a pool of ${cacheTokens} tokens` : "";
  return `a context of ${context} tokens with an ${cacheType} cache${pool}`;
}

/** All caps raised by the same amount, so that every entry may be used: overshoots keep their order. */
function lifted(entries: readonly PlacementEntry[]): PlacementEntry[] {
  const lift = Math.max(...entries.map(({ baseline }) => baseline)) + 1;
  return entries.map((entry) => ({ ...entry, cap: entry.cap + lift }));
}

function contextSuggestion({ largestContext, fitting, run, mostContext }: Shortage): PlanSuggestion[] {
  const largest = run.cacheType === "f32" ? fitting.largest("f32") : largestContext[run.cacheType];
  const value = Math.min(largest, mostContext);
  return value > 0 && value < run.context ? [{ change: "ctx", value }] : [];
}

function cacheSuggestions({ packing, fitting, run }: Shortage): PlanSuggestion[] {
  const others = packing.cacheTypes.filter((type) => type !== run.cacheType);
  return others.filter((type) => fitting.fits(run.context, type)).map((type) => ({ change: "cache", value: type }));
}

/** The caps that would do: those that are too small raised as little as possible, to whole MiB, never beyond what is free. */
function splitSuggestion({ fitting, entries, limits, run }: Shortage, usable: boolean): PlanSuggestion[] {
  const bounded = entries.map((entry, n) => ({ ...entry, most: limits[n]! }));
  const raised = place(fitting.problem(run, usable ? bounded : lifted(bounded)), "closest");
  if (!raised) return [];
  const raise = (use: number, n: number) => Math.min(roundUp(use, MiB), limits[n]!);
  const value = entries.map(({ cap }, n) => (raised.use[n]! > cap ? raise(raised.use[n]!, n) : cap));
  return [{ change: "gpuSplit", value }];
}
