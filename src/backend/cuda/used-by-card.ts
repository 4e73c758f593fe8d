// A plan's figures per card: entries that share one share its context.

import type { Card } from "./cards.js";
import type { UsedDevice } from "./loader.js";

export interface UsedByCard {
  /** The first entry's name. */
  readonly id: string;
  /** As it was before loading. */
  readonly card: Card;
  /** Bytes of its entries' arenas. */
  readonly arenas: number;
  /** Everything that the plan says of it. */
  readonly planned: number;
}

export function listOfCards(devices: readonly UsedDevice[], cards: readonly Card[]): UsedByCard[] {
  return cards.flatMap((card) => {
    const entries = devices.filter((device) => device.card === card.uuid);
    const first = entries[0];
    if (!first) return [];
    const sum = (of: (device: UsedDevice) => number) => entries.reduce((all, device) => all + of(device), 0);
    return [{ id: first.id, card, arenas: sum(({ stage }) => stage.arenas[0]!.bytes), planned: sum(({ total }) => total) }];
  });
}
