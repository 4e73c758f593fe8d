// Between planning and loading another process may have taken memory. The plan is checked
// against the devices once more before the first byte of weights, and refused, never bent.

import { freeBytes } from "./caps.js";
import type { Plan, PlanDevice, PlanRefusal } from "./plan.js";
import { refuse } from "./refusal.js";
import { formatBytes } from "./size.js";

/** `null` where every used device still has what the plan takes there, all entries of its card together. */
export function recheckPlan(plan: Plan, devicesNow: readonly PlanDevice[]): PlanRefusal | null {
  for (const { id, card, cap, total } of plan.devices) {
    if (total === 0) continue;
    const needed = plan.devices.reduce((sum, entry) => sum + (entry.card === card ? entry.total : 0), 0);
    const now = devicesNow.find((device) => device.card === card);
    const free = now ? freeBytes(now) : 0;
    if (needed <= free) continue;
    const message = now
      ? `${id} had room when the plan was made and has ${formatBytes(free)} free now: ${formatBytes(needed)} are needed, ${formatBytes(needed - free)} (${needed - free} bytes) short`
      : `${id} is gone since the plan was made`;
    return refuse("PLAN_MEMORY_TAKEN", message, {
      device: id,
      cap,
      needed,
      shortfall: needed - free,
      largestContext: plan.largestContext,
      devices: plan.devices.map((entry) => ({ id: entry.id, cap: entry.cap, needed: entry.total })),
    });
  }
  return null;
}
