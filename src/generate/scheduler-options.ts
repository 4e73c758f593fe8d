// How a loaded model's requests are scheduled where memory or places are short.

import { UsageError } from "../errors.js";

export interface PressureOptions {
  /**
   * What happens to a request for which there is no room, and to those that run when pages are short.
   *
   * - `"wait"` (default): it waits until all that it can come to need can be set aside for it;
   *   once begun it never runs out of memory.
   * - `"preempt"`: it begins when there is room for what it has now, so that more run at once; when
   *   pages run out, the youngest gives its own back and is computed again later. Answers stay as they would be.
   * - `"refuse"`: as `"wait"`, but what cannot begin at once fails with NoRoomError.
   */
  readonly onPressure?: "wait" | "preempt" | "refuse" | undefined;
  /** Requests that may wait; one more fails with QueueFullError. Default: any number. */
  readonly maxWaiting?: number | undefined;
}

const WAYS: readonly unknown[] = ["wait", "preempt", "refuse"] satisfies PressureOptions["onPressure"][];

/** @throws {UsageError} */
export function checkPressureOptions({ onPressure = "wait", maxWaiting = 0 }: PressureOptions): void {
  if (!WAYS.includes(onPressure))
    throw new UsageError(`onPressure cannot be ${JSON.stringify(onPressure)}`, { expected: `"wait", "preempt" or "refuse"` });
  if (!Number.isSafeInteger(maxWaiting) || maxWaiting < 0)
    throw new UsageError(`maxWaiting cannot be ${String(maxWaiting)}`, { expected: "a whole number from 0" });
}
