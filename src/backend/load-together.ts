// A model and its draft are loaded as one: the draft from its own part of the same plan, and
// progress counts the bytes of both.

import { draftPlan } from "../memory/draft-plan.js";
import type { LoadProgress, LoadRequest } from "./backend.js";

type OnProgress = (progress: LoadProgress) => void;

/** Loading the draft that a request brings along, as a request of its own; `null` where there is none. */
export function draftRequest({ plan, draft, signal }: LoadRequest): LoadRequest | null {
  const planned = plan.devices.some((device) => device.draft !== null);
  if (planned !== (draft !== undefined))
    throw new Error(
      planned ? "the plan holds a draft model and none is given" : "a draft model is given and the plan holds none",
    );
  if (!draft) return null;
  return { ...draft, plan: draftPlan(plan, draft.spec), ...(signal ? { signal } : {}) };
}

/**
 * One progress for several loads that follow each other.
 *
 * @param parts bytes of each, in the order in which they are loaded
 * @returns what each load reports to
 */
export function sharedProgress(onProgress: OnProgress | undefined, parts: readonly number[]): OnProgress[] {
  const totalBytes = parts.reduce((sum, bytes) => sum + bytes, 0);
  return parts.map((_, index) => {
    const before = parts.slice(0, index).reduce((sum, bytes) => sum + bytes, 0);
    return ({ loadedBytes }) => onProgress?.({ loadedBytes: before + loadedBytes, totalBytes });
  });
}
