// Which decode step will follow one, as far as that can be known before its ids are: while the card
// is at one step, the next is already queued behind it, with the ids that the card itself will
// have chosen. If the step that is asked for then is the one that was queued, its answer is only
// waited for; any other is run as always, and what was queued has only written keys and values where
// nobody reads before they are written anew.

import { PAGE_TOKENS } from "../../memory/plan.js";
import type { SampleRequest } from "../../sampling/parameters.js";
import type { BatchEntry, OutputRequest } from "../backend.js";

/** Most sequences of a step that is followed at once: with more, a step takes long beside the host's work. */
const MOST_ROWS = 8;

/** The step after `batch` if every sequence goes on, ids unknown (0); `null` where that cannot be said. */
export function followingStep(batch: readonly BatchEntry[]): BatchEntry[] | null {
  if (batch.length > MOST_ROWS) return null;
  const next: BatchEntry[] = [];
  for (const entry of batch) {
    const { tokens, start, pages, outputs } = entry;
    const [output] = outputs;
    if (tokens.length !== 1 || outputs.length !== 1 || !output?.sample || !choosesAlone(output, output.sample)) return null;
    const page = Math.floor((start + 1) / PAGE_TOKENS);
    if (pages.some((table) => page >= table.length || table[page] === -1)) return null;
    const sample = { ...output.sample, position: output.sample.position + 1 };
    next.push({ ...entry, tokens: Int32Array.of(0), start: start + 1, ropeLength: start + 2, outputs: [{ ...output, sample }] });
  }
  return next;
}

/** Whether `batch` is the step that was expected, with these ids. */
export function isExpected(
  batch: readonly BatchEntry[],
  expected: readonly BatchEntry[],
  ids: readonly (number | null)[],
): boolean {
  return (
    batch.length === expected.length &&
    batch.every((entry, i) => {
      const other = expected[i]!;
      return (
        entry.tokens.length === 1 &&
        entry.tokens[0] === ids[i] &&
        entry.start === other.start &&
        entry.outputs.length === 1 &&
        isSameOutput(entry.outputs[0]!, other.outputs[0]!) &&
        haveSamePages(entry, other) &&
        haveSameAdapters(entry, other)
      );
    })
  );
}

/** Nothing but the choice is wanted, and it looks at nothing that the step before decides. */
function choosesAlone({ index, target, topLogprobs, logits, hidden }: OutputRequest, sample: SampleRequest): boolean {
  const { repetitionPenalty, frequencyPenalty, presencePenalty } = sample.parameters;
  return (
    index === 0 &&
    target === null &&
    topLogprobs === 0 &&
    !logits &&
    !hidden &&
    sample.mask === null &&
    repetitionPenalty === 1 &&
    frequencyPenalty === 0 &&
    presencePenalty === 0
  );
}

function isSameOutput(output: OutputRequest, other: OutputRequest): boolean {
  const [sample, expected] = [output.sample, other.sample];
  return (
    sample !== null &&
    expected !== null &&
    choosesAlone(output, sample) &&
    sample.parameters === expected.parameters &&
    sample.seed === expected.seed &&
    sample.position === expected.position
  );
}

/** As far as a step at this position looks. */
function haveSamePages({ pages, start }: BatchEntry, other: BatchEntry): boolean {
  const last = Math.floor(start / PAGE_TOKENS);
  return pages.every((table, group) => {
    const expected = other.pages[group]!;
    for (let page = 0; page <= last; page++) if (table[page] !== expected[page]) return false;
    return true;
  });
}

function haveSameAdapters({ adapters = [] }: BatchEntry, other: BatchEntry): boolean {
  const expected = other.adapters ?? [];
  return (
    adapters.length === expected.length &&
    adapters.every(({ index, weight }, i) => index === expected[i]!.index && weight === expected[i]!.weight)
  );
}
