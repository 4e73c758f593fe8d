// Holds the driver to the plan: what each card shows as used after loading, less what it showed
// before this process touched it, may not exceed what the plan says.

import type { DevicePlan } from "../../memory/plan.js";
import type { Calibrations } from "./calibration.js";
import type { Card } from "./cards.js";
import { BaselineExceededError } from "./errors.js";
import type { Nvml } from "./nvml.js";
import { listOfCards, type UsedByCard } from "./used-by-card.js";

export class BaselineGuard {
  readonly #nvml: Nvml;
  readonly #calibrations: Calibrations;
  readonly #cards: readonly UsedByCard[];

  /** Notes what every used card shows now, before a context is opened on it. */
  constructor(nvml: Nvml, calibrations: Calibrations, devices: readonly DevicePlan[], cards: readonly Card[]) {
    this.#nvml = nvml;
    this.#calibrations = calibrations;
    this.#cards = listOfCards(devices, cards);
  }

  /**
   * Measures again, keeps what the driver took, and compares.
   *
   * @throws {BaselineExceededError}
   */
  check(): void {
    for (const { id, card, arenas, planned } of this.#cards) {
      const handle = this.#nvml.find(card.uuid);
      if (handle === null) continue;
      const used = card.free - this.#nvml.memory(handle).free;
      // A card that others gave memory back on meanwhile shows less than the arenas: nothing can be said.
      if (used < arenas) continue;
      this.#calibrations.record({ name: card.name, driver: card.driver }, used - arenas);
      if (used > planned) throw new BaselineExceededError(id, planned, used);
    }
  }
}
