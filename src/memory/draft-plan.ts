// A draft model's part of a plan, as a plan of its own: what a backend needs to load it and to
// run its steps beside the model's.

import type { ModelSpec } from "../model/spec.js";
import { cacheGroups } from "./cache-groups.js";
import type { DevicePlan, Plan } from "./plan.js";

/** The same run shape on the one device that holds the draft; the others hold nothing of it. */
export function draftPlan(plan: Plan, draft: ModelSpec): Plan {
  return {
    ...plan,
    devices: plan.devices.map((device) => draftPart(device, draft)),
    cacheGroups: cacheGroups(draft, plan.run),
  };
}

/** Its context and its head-room belong to the model's own plan. */
function draftPart(device: DevicePlan, draft: ModelSpec): DevicePlan {
  const { draft: stage } = device;
  const sums = { weights: stage?.weights ?? 0, kvCache: stage?.kvCache ?? 0, scratch: stage?.scratch ?? 0 };
  return {
    ...device,
    ...sums,
    baseline: 0,
    total: sums.weights + sums.kvCache + sums.scratch,
    layers: { first: 0, count: stage ? draft.layers.length : 0 },
    stage,
    draft: null,
  };
}
