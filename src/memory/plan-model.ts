// From a model, a packing, devices and wishes to the plan: who holds what, at which offset, or
// a refusal with the numbers. No device is touched and no weight is read: everything here is
// arithmetic on headers, and runs in a browser too.

import { adapterRank } from "../model/adapter.js";
import { cacheGroups } from "./cache-groups.js";
import { capLimits, entriesOf, firstCapAboveFree } from "./caps.js";
import { chooseContext, mostContext } from "./context.js";
import { planDevices } from "./device-plans.js";
import { Fitting } from "./fitting.js";
import { notesFor } from "./notes.js";
import type { CacheType, RunShape } from "./packing.js";
import type { Placement } from "./placement.js";
import type { PlacementEntry } from "./placement-problem.js";
import type { Plan, PlanRefusal } from "./plan.js";
import { CONTEXT_STEP, type PlanRequest, type PlanSettings, settingsOf } from "./plan-request.js";
import { type LargestContext, refuse, refuseShortage, worstOvershoot } from "./refusal.js";
import { formatBytes } from "./size.js";

export type { PlanRequest } from "./plan-request.js";

/**
 * Plans a model's whole memory. The same request always gives the same plan.
 *
 * @returns the plan, or why there is none
 * @throws {UsageError} when a figure of the request means nothing (no devices, a context of 0)
 */
export function planModel(request: PlanRequest): Plan | PlanRefusal {
  const settings = settingsOf(request);
  const { spec, packing, devices } = request;
  const entries = entriesOf(devices, request.caps);
  const fitting = new Fitting(spec, request.draft ?? null, packing, settings, entries);
  const largestContext = largestContexts(fitting);

  const refused = refuseBeforePlacing(request, settings, entries, fitting, largestContext);
  if (refused) return refused;

  const choice = chooseContext(request, settings, fitting);
  const run = fitting.run(choice.context, request.cacheType);
  const placement = choice.fits ? fitting.place(run, settings.splitMode) : null;
  if (!placement) {
    const limits = capLimits(devices, entries);
    const most = mostContext(request, settings);
    return refuseShortage({ fitting, packing, devices, entries, limits, run, mostContext: most, largestContext });
  }
  return {
    ok: true,
    packing: packing.name,
    splitMode: settings.splitMode,
    run,
    context: run.context,
    largestContext,
    devices: planDevices({ request, settings, run, entries, placement, costs: fitting.problem(run).costs }),
    cacheGroups: cacheGroups(spec, run),
    ...(spec.adapters ? { adapters: spec.adapters.map((adapter) => ({ name: adapter.name, rank: adapterRank(adapter) })) } : {}),
    binding: choice.bound ?? `${bindingDevice(request, fitting, entries, run)} memory`,
    notes: notesFor(request, run, placement, largestContext),
  };
}

function largestContexts(fitting: Fitting): LargestContext {
  return { f16: fitting.largest("f16"), q8: fitting.largest("q8"), q4: fitting.largest("q4") };
}

/** What can be refused without looking for a placement. */
function refuseBeforePlacing(
  request: PlanRequest,
  settings: PlanSettings,
  entries: readonly PlacementEntry[],
  fitting: Fitting,
  largestContext: LargestContext,
): PlanRefusal | null {
  const { packing, spec, cacheType, context, devices } = request;
  if (!packing.cacheTypes.includes(cacheType)) {
    const suggestions = packing.cacheTypes.map((type) => ({ change: "cache", value: type }) as const);
    const message = `the ${packing.name} backend does not run a KV cache of type ${cacheType}: it has ${packing.cacheTypes.join(", ")}`;
    return refuse("PLAN_CACHE_TYPE", message, { suggestions, largestContext });
  }
  if (typeof context === "number" && spec.contextLimit !== null && context > spec.contextLimit) {
    const value = Math.min(mostContext(request, settings), largestOf(fitting, cacheType, largestContext));
    const message =
      `a context of ${context} tokens is above the model's limit of ${spec.contextLimit}: ` +
      "longer sequences need RoPE scaling (--rope-scale or --rope-alpha)";
    const suggestions = value > 0 ? [{ change: "ctx", value } as const] : [];
    return refuse("PLAN_CONTEXT_ABOVE_MODEL_LIMIT", message, { suggestions, largestContext });
  }
  const above = request.caps === "auto" ? null : firstCapAboveFree(devices, entries);
  if (!above) return null;
  const { device, caps, free } = above;
  const message =
    `${device.id} has ${formatBytes(free)} free, the cap is ${formatBytes(caps)}: ` +
    `${formatBytes(caps - free)} (${caps - free} bytes) short`;
  return refuse("PLAN_CAP_EXCEEDS_FREE", message, {
    device: device.id,
    cap: caps,
    needed: caps,
    shortfall: caps - free,
    suggestions: withinFree(request),
    largestContext,
    devices: devices.map(({ id }, n) => ({ id, cap: entries[n]?.cap ?? 0, needed: entries[n]?.cap ?? 0 })),
  });
}

/** The same caps cut down to what is free, offered where the plan would still stand. */
function withinFree(request: PlanRequest): PlanRefusal["suggestions"] {
  const value = entriesOf(request.devices, "auto")
    .slice(0, request.caps.length)
    .map(({ cap }, n) => Math.min(cap, request.caps[n] as number));
  return planModel({ ...request, caps: value }).ok ? [{ change: "gpuSplit", value }] : [];
}

function largestOf(fitting: Fitting, cacheType: CacheType, largest: LargestContext): number {
  return cacheType === "f32" ? fitting.largest(cacheType) : largest[cacheType];
}

/** The device whose cap stands in the way of one more step of context. */
function bindingDevice(request: PlanRequest, fitting: Fitting, entries: readonly PlacementEntry[], run: RunShape): string {
  const next = fitting.run((Math.floor(run.context / CONTEXT_STEP) + 1) * CONTEXT_STEP, run.cacheType);
  const closest: Placement | null = fitting.place(next, "closest");
  return closest ? request.devices[worstOvershoot(closest.use, entries)]!.id : request.packing.name;
}
