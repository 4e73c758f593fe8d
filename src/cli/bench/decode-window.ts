// How fast sequences that decode at once go, from the moments at which their tokens came. A
// sequence begins when its prompt is done, so they do not begin together: what counts lies
// between the first token of the last one and the end of the first one, all tokens that came in that
// time, whoever got them: sequences may take turns. What arrives in one message is noted some microseconds
// apart: it belongs to the moment all the same, and time is taken from token to token of one sequence.

/** When ids of one sequence arrived, in order. */
export interface Arrival {
  /** ms */
  readonly at: number;
  /** Ids that came with it. */
  readonly ids: number;
}

export interface DecodeWindow {
  /** Of all sequences together. */
  readonly tokensPerSecond: number;
  /** Length of the time in which all were decoding, ms. */
  readonly milliseconds: number;
  /** Tokens of an answer that a sequence held in the middle of it, on average over sequences. */
  readonly answered: number;
}

/** Of the usual time between a sequence's tokens: what is no further apart came together. */
const TOGETHER = 0.25;

/** @returns `null` where there was no time in which all of them were decoding, or nothing came in it */
export function decodeWindow(sequences: readonly (readonly Arrival[])[]): DecodeWindow | null {
  const begin = Math.max(...sequences.map((arrivals) => arrivals[0]?.at ?? Number.POSITIVE_INFINITY));
  const end = Math.min(...sequences.map((arrivals) => arrivals.at(-1)?.at ?? Number.NEGATIVE_INFINITY));
  if (!(end > begin)) return null;
  const together = TOGETHER * usualGap(sequences);
  const before = sequences.map((arrivals) => count(arrivals.filter(({ at }) => at <= begin + together)));
  const inside = sequences.map((arrivals, i) => count(arrivals.filter(({ at }) => at <= end + together)) - before[i]!);
  const tokens = sum(inside);
  if (tokens === 0) return null;
  const milliseconds = spanOf(sequences, { begin, end, together });
  const answered = sum(before.map((ids, i) => ids + inside[i]! / 2)) / sequences.length;
  return { tokensPerSecond: (tokens * 1000) / milliseconds, milliseconds, answered };
}

/** By the clock of those sequences that had a token at both ends; else from the one to the other. */
function spanOf(sequences: readonly (readonly Arrival[])[], window: { begin: number; end: number; together: number }): number {
  const { begin, end, together } = window;
  const spans = sequences.flatMap((arrivals) => {
    const [first, last] = [begin, end].map((moment) => arrivals.find(({ at }) => Math.abs(at - moment) <= together));
    return first && last ? [last.at - first.at] : [];
  });
  return spans.length > 0 ? sum(spans) / spans.length : end - begin;
}

/** Median of the times between two tokens of a sequence, ms. */
function usualGap(sequences: readonly (readonly Arrival[])[]): number {
  const gaps = sequences.flatMap((arrivals) => arrivals.slice(1).map(({ at }, i) => at - arrivals[i]!.at));
  return gaps.sort((a, b) => a - b)[Math.floor(gaps.length / 2)]!;
}

function count(arrivals: readonly Arrival[]): number {
  return sum(arrivals.map(({ ids }) => ids));
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, each) => total + each, 0);
}
