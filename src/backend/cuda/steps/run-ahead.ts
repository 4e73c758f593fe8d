// Which decode step will follow one, as far as that can be known before its ids are: while the card
// is at one step, the next is already queued behind it, with the ids that the card itself will
// have chosen. What is asked for then is looked for among the rows that were queued, and answered by
// them; a row whose sequence has ended meanwhile answers nobody, and has only written keys and values
// where nobody reads before they are written anew.

import { PAGE_TOKENS } from "../../../memory/plan.js";
import type { SampleRequest } from "../../../sampling/parameters.js";
import { penaltyReach } from "../../../sampling/penalties.js";
import type { BatchEntry, OutputRequest } from "../../backend.js";

/** A decode step: an entry of one token for each row, `null` where it is idle. */
export type DecodeRows = readonly (BatchEntry | null)[];

/** The step after these rows if every sequence goes on, ids unknown (0); `null` where that cannot be said of one of them. */
export function followingRows(rows: DecodeRows): DecodeRows | null {
  const next: (BatchEntry | null)[] = [];
  for (const entry of rows) {
    const following = entry && onward(entry);
    if (entry && !following) return null;
    next.push(following);
  }
  return next;
}

function onward(entry: BatchEntry): BatchEntry | null {
  const { tokens, start, pages, outputs } = entry;
  const [output] = outputs;
  if (tokens.length !== 1 || outputs.length !== 1 || !output?.sample || !choosesAlone(output, output.sample)) return null;
  const page = Math.floor((start + 1) / PAGE_TOKENS);
  if (pages.some((table) => page >= table.length || table[page] === -1)) return null;
  const { sample } = output;
  const next = { ...sample, position: sample.position + 1, history: penalisedHistory(sample) };
  return {
    ...entry,
    tokens: UNKNOWN_ID,
    start: start + 1,
    ropeLength: start + 2,
    outputs: [{ ...output, sample: next }],
  };
}

const UNKNOWN_ID = Int32Array.of(0);

/** Of a history, what the next choice is penalised by beside the id that is not known yet: a copy, since views change. */
function penalisedHistory({ parameters, history }: SampleRequest): Int32Array {
  const reach = penaltyReach(parameters, history.length + 1);
  return reach > 1 ? history.slice(-(reach - 1)) : NO_IDS;
}

const NO_IDS = new Int32Array(0);

/**
 * For each entry of a batch the row of a queued step that is the same, or −1. Sequences leave and
 * come, those that stay keep their order.
 *
 * @param ids that the rows were fed
 */
export function rowsInStep(batch: readonly BatchEntry[], queued: DecodeRows, ids: readonly (number | null)[]): number[] {
  let from = 0;
  return batch.map((entry) => {
    for (let row = from; row < queued.length; row++) {
      const other = queued[row];
      if (!other || !isSame(entry, other, ids[row]!)) continue;
      from = row + 1;
      return row;
    }
    return -1;
  });
}

function isSame(entry: BatchEntry, queued: BatchEntry, id: number | null): boolean {
  return (
    entry.start === queued.start &&
    entry.tokens.length === 1 &&
    entry.tokens[0] === id &&
    entry.outputs.length === 1 &&
    haveSamePages(entry, queued) &&
    isSameOutput(entry.outputs[0]!, queued.outputs[0]!, entry.tokens[0]!) &&
    haveSameAdapters(entry, queued)
  );
}

/** Nothing but the choice is wanted, and all that it looks at of the step before is the id, which the card knows. */
function choosesAlone(
  { index, target, topLogprobs, logits, hidden }: OutputRequest,
  { mask, parameters }: SampleRequest,
): boolean {
  return (
    index === 0 &&
    target === null &&
    topLogprobs === 0 &&
    !logits &&
    !hidden &&
    mask === null &&
    parameters.frequencyPenalty === 0 &&
    parameters.presencePenalty === 0
  );
}

function isSameOutput(output: OutputRequest, queued: OutputRequest, id: number): boolean {
  const [sample, expected] = [output.sample, queued.sample];
  return (
    sample !== null &&
    expected !== null &&
    choosesAlone(output, sample) &&
    sample.parameters === expected.parameters &&
    sample.seed === expected.seed &&
    sample.position === expected.position &&
    hasSameHistory(sample, expected.history, id)
  );
}

/** As far as the repetition penalty looks. */
function hasSameHistory({ parameters, history }: SampleRequest, older: Int32Array, newest: number): boolean {
  const reach = penaltyReach(parameters, history.length);
  if (reach === 0) return older.length === 0;
  if (older.length !== reach - 1 || history[history.length - 1] !== newest) return false;
  const first = history.length - reach;
  for (let i = 0; i < older.length; i++) if (older[i] !== history[first + i]) return false;
  return true;
}

/** As far as a step at this position looks. */
function haveSamePages({ pages, start }: BatchEntry, queued: BatchEntry): boolean {
  const last = Math.floor(start / PAGE_TOKENS);
  return pages.every((table, group) => {
    const expected = queued.pages[group]!;
    for (let page = 0; page <= last; page++) if (table[page] !== expected[page]) return false;
    return true;
  });
}

function haveSameAdapters({ adapters = [] }: BatchEntry, queued: BatchEntry): boolean {
  const expected = queued.adapters ?? [];
  return (
    adapters.length === expected.length &&
    adapters.every(({ index, weight }, i) => index === expected[i]!.index && weight === expected[i]!.weight)
  );
}
