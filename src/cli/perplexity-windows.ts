// How a text is cut for measuring perplexity. Window k of size W is ids[k·W … k·W + W], both
// ends included: W ids are given, and each predicts the one after it. Windows share one id,
// so that every id but the first is predicted exactly once.

/** The windows of several texts, in order; none crosses from one text to the next. */
export function windowsOf(texts: readonly (readonly number[])[], options: WindowOptions): WindowCut {
  const windows: (readonly number[])[] = [];
  let dropped = 0;
  for (const ids of texts) {
    let start = 0;
    for (; start + options.window < ids.length; start += options.window)
      windows.push(ids.slice(start, start + options.window + 1));
    const rest = ids.length - 1 - start;
    if (rest <= 0) continue;
    if (rest >= options.minimum || (start === 0 && texts.length === 1)) windows.push(ids.slice(start));
    else dropped += rest;
  }
  const kept = options.limit === undefined ? windows : windows.slice(0, options.limit);
  return { windows: kept, dropped };
}

export interface WindowOptions {
  /** Ids that each window predicts. */
  readonly window: number;
  /** A shorter last window counts when it predicts at least so many; a lone short text always counts. */
  readonly minimum: number;
  /** Most windows. */
  readonly limit?: number;
}

export interface WindowCut {
  /** Each of 2 … window + 1 ids. */
  readonly windows: readonly (readonly number[])[];
  /** Ids of last windows that were too short. */
  readonly dropped: number;
}
