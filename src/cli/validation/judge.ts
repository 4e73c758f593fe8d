// What a validation says of two ways to the same answer: equal bits where this is promised, else
// perplexities within a bound.

/** Log-probability of each id after those before it. */
export type Scores = Float32Array;

/** Ids that were generated greedily, and their log-probabilities. */
export interface GreedyAnswer {
  readonly ids: readonly number[];
  readonly logprobs: Scores;
}

/** One line of a validation. */
export interface Verdict {
  readonly check: string;
  readonly ok: boolean;
  /** Of the way that is checked, and of the one that it is held against. */
  readonly perplexity: number;
  readonly reference: number;
  /** |perplexity / reference − 1|. */
  readonly difference: number;
  /** Standard error of the difference: what a text of this length leaves to chance. */
  readonly uncertainty: number;
  /** Most that the difference may be; 0: every bit must be equal. */
  readonly allowed: number;
  /** Of the log-probabilities. */
  readonly sameBits: boolean;
  /** What else is to be said, or `null`. */
  readonly remark: string | null;
}

/** So many standard errors may be chance. */
const CHANCE = 3;

export function judgeScores(check: string, got: Scores, reference: Scores, allowed: number): Verdict {
  const sameBits = equalBits(got, reference);
  const [perplexity, wanted] = [perplexityOf(got), perplexityOf(reference)];
  const difference = Math.abs(perplexity / wanted - 1);
  const uncertainty = standardError(got, reference);
  const within = got.length === reference.length && difference <= allowed + CHANCE * uncertainty;
  const ok = allowed === 0 ? sameBits : within;
  return { check, ok, perplexity, reference: wanted, difference, uncertainty, allowed, sameBits, remark: null };
}

/**
 * Answers that were generated together against the same ones alone. Where bits may differ, a greedy
 * answer may take another way at a near tie: it is compared up to there, and the tie is told.
 */
export function judgeAnswers(
  check: string,
  together: readonly GreedyAnswer[],
  alone: readonly GreedyAnswer[],
  allowed: number,
): Verdict {
  const common = together.map((answer, i) => commonLength(answer.ids, alone[i]!.ids));
  const joined = (answers: readonly GreedyAnswer[]) =>
    Float32Array.from(answers.flatMap(({ logprobs }, i) => [...logprobs.subarray(0, common[i])]));
  const verdict = judgeScores(check, joined(together), joined(alone), allowed);
  const other = together.filter(({ ids }, i) => common[i]! < Math.max(ids.length, alone[i]!.ids.length)).length;
  if (other === 0) return verdict;
  return {
    ...verdict,
    ok: allowed > 0 && verdict.ok,
    sameBits: false,
    remark: `${other} of ${together.length} answers take another way, the first after ${Math.min(...common)} tokens`,
  };
}

/** e^−mean; 1 where there is nothing. */
export function perplexityOf(scores: Scores): number {
  return Math.exp(-scores.reduce((sum, logprob) => sum + logprob, 0) / Math.max(1, scores.length));
}

/** Of the mean of the differences. */
function standardError(a: Scores, b: Scores): number {
  const count = Math.min(a.length, b.length);
  if (count < 2) return 0;
  const differences = Array.from({ length: count }, (_, i) => a[i]! - b[i]!);
  const mean = differences.reduce((sum, difference) => sum + difference, 0) / count;
  const squares = differences.reduce((sum, difference) => sum + (difference - mean) ** 2, 0);
  return Math.sqrt(squares / (count - 1) / count);
}

function equalBits(a: Scores, b: Scores): boolean {
  return a.length === b.length && a.every((value, i) => Object.is(value, b[i]));
}

function commonLength(a: readonly number[], b: readonly number[]): number {
  const length = a.findIndex((id, i) => id !== b[i]);
  return length < 0 ? Math.min(a.length, b.length) : length;
}
