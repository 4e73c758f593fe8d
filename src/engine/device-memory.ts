// What a loaded model's devices hold now, beside what the plan said.

import type { Plan } from "../memory/plan.js";
import type { Gpus } from "./gpus.js";
import type { DeviceMemory } from "./model.js";

/**
 * Measures now, in the engine's process.
 *
 * @param gpus as they were before loading; not needed for a plan on the CPU
 */
export function measureDeviceMemory(plan: Plan, gpus: Gpus | undefined): DeviceMemory[] {
  const cards = new Map<string, { id: string; planned: number }>();
  for (const { id, card, total } of plan.devices) {
    if (total === 0) continue;
    const known = cards.get(card);
    if (known) known.planned += total;
    else cards.set(card, { id, planned: total });
  }
  return [...cards].map(([card, { id, planned }]) => {
    const measured = card === "cpu" ? process.memoryUsage.rss() : usedSinceLoading(card, gpus);
    return { id, planned, measured };
  });
}

function usedSinceLoading(uuid: string, gpus: Gpus | undefined): number | null {
  const before = gpus?.cards.find((card) => card.uuid === uuid);
  const handle = gpus?.sources?.nvml.find(uuid) ?? null;
  if (!gpus?.sources || !before || handle === null) return null;
  return Math.max(0, before.free - gpus.sources.nvml.memory(handle).free);
}
