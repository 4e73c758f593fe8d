// A plan's figures per card: entries that share one share its context.

import type { DevicePlan, StageLayout } from "../../../memory/plan.js";
import type { Card } from "./cards.js";

export interface UsedByCard {
  /** The first entry's name. */
  readonly id: string;
  /** As it was before loading. */
  readonly card: Card;
  /** Bytes of its entries' arenas. */
  readonly arenas: number;
  /** Everything that the plan says of it, and of that the driver's own. */
  readonly planned: number;
  readonly baseline: number;
}

/** @param devices those that hold something, of the model or of its draft */
export function listOfCards(devices: readonly DevicePlan[], cards: readonly Card[]): UsedByCard[] {
  return cards.flatMap((card) => {
    const entries = devices.filter((device) => device.card === card.uuid);
    const first = entries[0];
    if (!first) return [];
    const sum = (of: (device: DevicePlan) => number) => entries.reduce((all, device) => all + of(device), 0);
    const arenas = sum(({ stage, draft }) => arenaBytes(stage) + arenaBytes(draft));
    return [{ id: first.id, card, arenas, planned: sum(({ total }) => total), baseline: sum((device) => device.baseline) }];
  });
}

function arenaBytes(stage: StageLayout | null): number {
  return stage ? stage.arenas[0]!.bytes : 0;
}
