// How fast sequences that decode at once go, from the moments at which their tokens came. A
// sequence begins when its prompt is done, so they do not begin together: what counts lies
// between the first token of the last one and the end of the first one. Each sequence is timed
// from token to token of its own within that, so that what arrives in one message but is noted
// some microseconds apart is counted neither twice nor short.

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

/** @returns `null` where there was no time in which all of them got two tokens */
export function decodeWindow(sequences: readonly (readonly Arrival[])[]): DecodeWindow | null {
  const begin = Math.max(...sequences.map((arrivals) => arrivals[0]?.at ?? Number.POSITIVE_INFINITY));
  const end = Math.min(...sequences.map((arrivals) => arrivals.at(-1)?.at ?? Number.NEGATIVE_INFINITY));
  let tokensPerSecond = 0;
  let answered = 0;
  for (const arrivals of sequences) {
    const inside = arrivals.filter(({ at }) => at >= begin && at <= end);
    const [first, last] = [inside[0], inside.at(-1)];
    if (!first || !last || last.at <= first.at) return null;
    const tokens = count(inside) - first.ids;
    tokensPerSecond += (tokens * 1000) / (last.at - first.at);
    answered += count(arrivals.filter(({ at }) => at <= first.at)) + tokens / 2;
  }
  return { tokensPerSecond, milliseconds: end - begin, answered: answered / sequences.length };
}

function count(arrivals: readonly Arrival[]): number {
  return arrivals.reduce((sum, { ids }) => sum + ids, 0);
}
