// What reading alone reaches on a card: the limit that a decode step is compared with. The same
// kernel as in a step's profile, over memory of its own.

import { readRate } from "../profile/step-profile.js";
import type { Card, CardSources } from "./cards.js";
import { DeviceContext } from "./device-context.js";

/** Many times the largest L2 cache; a card that is nearly full gives half of what is free. */
const MOST_BYTES = 2 ** 30;

/**
 * Takes a context and up to 1 GiB for some milliseconds.
 *
 * @returns bytes per second
 * @throws {CudaError} with nothing left behind
 */
export function measureReadRate({ driver }: CardSources, { ordinal }: Card): number {
  const context = DeviceContext.open(driver, ordinal, `cuda:${ordinal}`);
  try {
    const { free } = driver.memoryInfo({ device: context.id });
    const bytes = Math.min(MOST_BYTES, Math.floor(free / 2));
    const memory = context.use().allocate(bytes);
    context.fill(memory, 0x5a, bytes);
    return readRate(context, memory, bytes);
  } finally {
    context.close();
  }
}
