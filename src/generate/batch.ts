// Who runs in the next step. Every sequence that decodes gets its one token; what room the
// plan's prefill chunk leaves goes to prompts, first come first served, so that a long prompt
// never stops the others' answers.

import type { Sequence } from "./sequence.js";

/** A sequence that takes part in a step and feeds its ids up to `end`. */
export interface BatchPart {
  readonly sequence: Sequence;
  readonly end: number;
}

/**
 * Chooses the parts of a step: at most `prefillChunk` tokens, or one for each part if that is more.
 *
 * @param running in the order of admission, no more than the plan's maxSequences
 */
export function composeBatch(running: readonly Sequence[], prefillChunk: number): BatchPart[] {
  const ready = running.filter(({ job }) => !job.paused);
  const parts: BatchPart[] = ready
    .filter((sequence) => sequence.remaining === 1)
    .map((sequence) => ({ sequence, end: sequence.fed + 1 }));
  let tokens = parts.length;
  for (const sequence of ready) {
    if (sequence.remaining <= 1) continue;
    // A chunk smaller than the batch must not starve prompts: one token for each part is always allowed.
    const room = Math.max(prefillChunk - tokens, tokens === parts.length ? 1 : 0);
    if (room <= 0) break;
    const { fed, remaining, lease } = sequence;
    const end = lease.pages.chunkEnd(fed, fed + Math.min(room, remaining));
    parts.push({ sequence, end });
    tokens += end - fed;
  }
  return parts;
}
