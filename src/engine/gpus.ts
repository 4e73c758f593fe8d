// The GPUs of this computer, or why there are none: looked for once a plan or a load needs to
// know, never failing by itself, since most machines have none.

import type { Card, CardSources } from "../backend/cuda/cards/cards.js";
import { listCards } from "../backend/cuda/cards/cards.js";
import { openDriver } from "../backend/cuda/cards/open-driver.js";
import { ExllamaError } from "../errors.js";

export interface Gpus {
  readonly cards: readonly Card[];
  /** Why no card can be used, or `null`. */
  readonly problem: ExllamaError | null;
  readonly sources: CardSources | null;
}

/** Asks the driver; creates no context and takes no device memory. */
export function findGpus(): Gpus {
  try {
    const sources = openDriver();
    const cards = listCards(sources);
    const usable = cards.some(({ unusable }) => unusable === null);
    return { cards, problem: usable ? null : (cards[0]?.unusable ?? null), sources };
  } catch (error) {
    if (!(error instanceof ExllamaError)) throw error;
    return { cards: [], problem: error, sources: null };
  }
}
