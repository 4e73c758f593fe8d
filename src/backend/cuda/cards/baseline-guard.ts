// Holds the driver to the plan: what each card shows as used after loading, less what it showed
// before this process touched it, may not exceed what the plan says.

import type { DevicePlan } from "../../../memory/plan.js";
import { BaselineExceededError } from "../errors.js";
import type { Calibrations } from "./calibration.js";
import type { Card } from "./cards.js";
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

  /** Keeps what the driver takes by itself: to be called when all kernels are loaded and no step is captured. */
  keep(): void {
    for (const { card, arenas } of this.#cards) {
      const used = this.#usedOf(card);
      // A card that others gave memory back on meanwhile shows less than the arenas: nothing can be said.
      if (used !== null && used >= arenas) this.#calibrations.record(card, used - arenas);
    }
  }

  /**
   * Compares all that is taken with the plan, and keeps what was more.
   *
   * @throws {BaselineExceededError}
   */
  check(): void {
    for (const { id, card, planned, baseline } of this.#cards) {
      const used = this.#usedOf(card);
      if (used === null || used <= planned) continue;
      // Whatever it was: the next plan holds with so much more.
      this.#calibrations.record(card, baseline + used - planned);
      throw new BaselineExceededError(id, planned, used);
    }
  }

  #usedOf(card: Card): number | null {
    const handle = this.#nvml.find(card.uuid);
    return handle === null ? null : card.free - this.#nvml.memory(handle).free;
  }
}
