// The machine-readable form of plans and refusals, which other programs rely on: fields may be
// added, these stay. All sizes are bytes.

import { adapterBytes } from "./adapter-bytes.js";
import type { DevicePlan, Plan, PlanRefusal } from "./plan.js";

/** A plan without its regions: what `exllama plan --json` prints. */
export function planToJson(plan: Plan) {
  const { cacheTokens, cacheType, maxSequences, prefillChunk } = plan.run;
  return {
    ok: plan.ok,
    splitMode: plan.splitMode,
    context: plan.context,
    largestContext: plan.largestContext,
    devices: plan.devices.map(deviceToJson),
    binding: plan.binding,
    packing: plan.packing,
    cacheType,
    cacheTokens,
    maxSequences,
    prefillChunk,
    cacheGroups: plan.cacheGroups.map(({ window, layers, pages }) => ({ window, layers: layers.length, pages })),
    adapters: plan.adapters ?? [],
    notes: plan.notes,
  };
}

function deviceToJson(device: DevicePlan) {
  const { id, cap, baseline, weights, kvCache, scratch, total, headroom, layers, excluded, card, baselineSource, draft } = device;
  const sums = { id, cap, baseline, weights, kvCache, scratch, total, headroom, layers, excluded };
  const draftBytes = draft ? draft.weights + draft.kvCache + draft.scratch : 0;
  return { ...sums, card, baselineSource, draft: draftBytes, adapters: adapterBytes(device.stage) };
}

/** A refusal as `exllama plan --json` prints it; it is plain data already. */
export function refusalToJson(refusal: PlanRefusal) {
  const { ok, code, message, device, cap, needed, shortfall, suggestions, largestContext, devices } = refusal;
  return { ok, code, message, device, cap, needed, shortfall, suggestions, largestContext, devices };
}
