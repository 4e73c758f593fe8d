// From devices and a split to the caps that placement works with. Automatic caps come from free
// memory; given ones are taken at their word, and refused where the memory is not free.

import type { PlacementEntry } from "./placement-problem.js";
import type { PlanDevice } from "./plan.js";

/** Bytes that this process could take on a device now. */
export function freeBytes(device: PlanDevice): number {
  return Math.max(0, device.total - device.usedByOthers);
}

/** One entry per value of the split; automatic caps share a card's free memory equally among its entries. */
export function entriesOf(devices: readonly PlanDevice[], caps: readonly number[] | "auto"): PlacementEntry[] {
  if (caps !== "auto") return caps.map((cap, index) => ({ cap, baseline: devices[index]!.baseline, card: devices[index]!.card }));
  return devices.map((device) => {
    const sharing = devices.filter(({ card }) => card === device.card).length;
    const cap = Math.floor(Math.max(0, freeBytes(device) - device.reserve) / sharing);
    return { cap, baseline: device.baseline, card: device.card };
  });
}

/** The first device whose caps, all entries of its card together, exceed what is free there; or `null`. */
export function firstCapAboveFree(
  devices: readonly PlanDevice[],
  entries: readonly PlacementEntry[],
): { device: PlanDevice; caps: number; free: number } | null {
  for (const [index, { card }] of entries.entries()) {
    const caps = entries.reduce((sum, entry) => sum + (entry.card === card ? entry.cap : 0), 0);
    const free = freeBytes(devices[index]!);
    if (caps > free) return { device: devices[index]!, caps, free };
  }
  return null;
}

/** How far each entry's cap could be raised: what is free on its card, its share of it where the card is listed twice. */
export function capLimits(devices: readonly PlanDevice[], entries: readonly PlacementEntry[]): number[] {
  return entries.map(({ card, cap }, index) => {
    const onCard = entries.filter((entry) => entry.card === card);
    const unclaimed = freeBytes(devices[index]!) - onCard.reduce((sum, entry) => sum + entry.cap, 0);
    return cap + Math.max(0, Math.floor(unclaimed / onCard.length));
  });
}
