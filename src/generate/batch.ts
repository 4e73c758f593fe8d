// Who runs in the next step. Every sequence that decodes gets its tokens; what room the plan's
// prefill chunk leaves goes to prompts. Half of it is the oldest prompt's, so that a long one
// gets done whatever comes after it; the rest goes to those that need least, so that a short
// one behind a long one does not wait for it.

import type { Sequence } from "./sequence.js";

/** A sequence that takes part in a step and feeds its ids up to `end`. */
export interface BatchPart {
  readonly sequence: Sequence;
  readonly end: number;
}

/**
 * Chooses the parts of a step: at most `prefillChunk` tokens, or one for each part if that is more.
 *
 * @param running in the order of their requests, no more than the plan's maxSequences
 */
export function composeBatch(running: readonly Sequence[], prefillChunk: number): BatchPart[] {
  const ready = running.filter(({ job, remaining }) => remaining > 0 && !job.paused);
  const batch = new Batch(prefillChunk);
  const decoding = ready.filter((sequence) => sequence.decoding || sequence.remaining === 1);
  for (const sequence of decoding) batch.grant(sequence, 1);
  for (const sequence of decoding) batch.grant(sequence, sequence.remaining);

  const prompts = leaders(ready.filter((sequence) => batch.granted(sequence) === 0));
  if (prompts[0]) batch.grant(prompts[0], Math.max(1, Math.ceil(batch.room / 2)));
  const left = (sequence: Sequence) => sequence.remaining - batch.granted(sequence);
  for (const sequence of prompts.sort((a, b) => left(a) - left(b))) batch.grant(sequence, sequence.remaining);
  return batch.parts;
}

/** Leaves out those that would compute a page which another is computing: they go on from it when it is complete. */
function leaders(prompts: readonly Sequence[]): Sequence[] {
  if (prompts.length < 2) return [...prompts];
  const computed = new Map<number, Sequence>();
  return prompts.filter((sequence) => {
    const next = sequence.nextPageKey;
    const leader = next === null ? undefined : computed.get(next);
    if (leader && leader.fed >= sequence.fed) return false;
    const key = sequence.pageKey;
    if (key !== null && !computed.has(key)) computed.set(key, sequence);
    return true;
  });
}

class Batch {
  readonly #ends = new Map<Sequence, number>();
  readonly #prefillChunk: number;
  #tokens = 0;

  constructor(prefillChunk: number) {
    this.#prefillChunk = prefillChunk;
  }

  get parts(): BatchPart[] {
    return [...this.#ends].map(([sequence, end]) => ({ sequence, end }));
  }

  get room(): number {
    return Math.max(0, this.#prefillChunk - this.#tokens);
  }

  granted(sequence: Sequence): number {
    return (this.#ends.get(sequence) ?? sequence.fed) - sequence.fed;
  }

  /** Up to `most` tokens more for a sequence. A chunk smaller than the batch starves nobody: one token for each part is always allowed. */
  grant(sequence: Sequence, most: number): void {
    const from = this.#ends.get(sequence) ?? sequence.fed;
    const isNew = from === sequence.fed;
    const room = isNew && this.#tokens === this.#ends.size ? Math.max(1, this.room) : this.room;
    const left = sequence.fed + sequence.remaining - from;
    const end = sequence.chunkEnd(from + Math.min(most, room, left));
    if (end <= from) return;
    this.#ends.set(sequence, end);
    this.#tokens += end - from;
  }
}
