// Options for answers that are more than one id sampled after the other: guidance by a second
// prompt, beams, guesses ahead. Checked here, value by value and one against the other.

import type { BeamShape } from "./beams/beam-search.js";
import { GenerationOptionError } from "./errors.js";
import { NGRAM_BOUNDS, type NgramBounds } from "./speculation/ngram-index.js";

/** Two prompts, one answer; see guidance.ts. */
export interface Guidance {
  /** 1: the prompt alone; more: away from the negative prompt; 0: the negative prompt alone. */
  readonly scale: number;
  /** Ids of the negative prompt. */
  readonly negative: ArrayLike<number>;
}

/** Guesses ahead, which the model judges in its own steps: they never change an answer. */
export interface NgramSpeculation {
  /** Most guesses of a step. */
  readonly tokens: number;
  /** Fewest ids at the text's end that must have come before: what followed them then is the guess. */
  readonly ngram: number;
}

/** So many guesses, of the draft model where one is loaded, else of the text itself; or of the text anyway. 0: none. */
export type Speculation = number | NgramSpeculation;

const MOST_GUESSES = 64;
const MOST_NGRAM = 64;
const MOST_BEAMS = 64;
const MOST_BEAM_LENGTH = 256;
const MOST_SCALE = 100;

/** Guesses of a step where a draft model is loaded and nobody says how many. */
const DRAFT_GUESSES = 4;

const isWhole = (value: unknown, least: number, most: number): boolean =>
  Number.isInteger(value) && (value as number) >= least && (value as number) <= most;

/** Exactly these fields, each as its test wants it. */
function isRecordOf(value: unknown, tests: Readonly<Record<string, (field: unknown) => boolean>>): boolean {
  if (typeof value !== "object" || value === null || Array.isArray(value)) return false;
  const fields = value as Record<string, unknown>;
  return (
    Object.keys(fields).every((key) => Object.hasOwn(tests, key)) &&
    Object.entries(tests).every(([key, test]) => test(fields[key]))
  );
}

/** In the form of the other options' rules. */
export const STRATEGY_RULES = {
  guidance: {
    expected: `{ scale, negative }: a number from 0 to ${MOST_SCALE}, and the ids of the negative prompt`,
    accepts: (value: unknown): boolean =>
      isRecordOf(value, {
        scale: (scale) => typeof scale === "number" && scale >= 0 && scale <= MOST_SCALE,
        negative: (ids) => (Array.isArray(ids) || ArrayBuffer.isView(ids)) && (ids as unknown[]).length > 0,
      }),
  },
  beams: {
    expected: `{ count, length }: whole numbers from 1 to ${MOST_BEAMS} and from 1 to ${MOST_BEAM_LENGTH}`,
    accepts: (value: unknown): boolean =>
      isRecordOf(value, {
        count: (count) => isWhole(count, 1, MOST_BEAMS),
        length: (length) => isWhole(length, 1, MOST_BEAM_LENGTH),
      }),
  },
  speculate: {
    expected: `a whole number from 0 to ${MOST_GUESSES}, or { tokens, ngram } from 1 to ${MOST_GUESSES} and from 1 to ${MOST_NGRAM}`,
    accepts: (value: unknown): boolean =>
      isWhole(value, 0, MOST_GUESSES) ||
      isRecordOf(value, {
        tokens: (tokens) => isWhole(tokens, 1, MOST_GUESSES),
        ngram: (ngram) => isWhole(ngram, 1, MOST_NGRAM),
      }),
  },
} as const;

/**
 * What a model is loaded with; `null`: nobody says.
 *
 * @throws {GenerationOptionError}
 */
export function checkSpeculation(speculate: Speculation | undefined): Speculation | null {
  if (speculate === undefined) return null;
  const { accepts, expected } = STRATEGY_RULES.speculate;
  if (!accepts(speculate)) throw new GenerationOptionError(`speculate cannot be ${JSON.stringify(speculate)}`, { expected });
  return speculate;
}

/** How an answer's tokens are found. */
export interface Strategy {
  readonly guidance: Guidance | null;
  readonly beams: BeamShape | null;
  /** `null`: as the model was loaded. */
  readonly speculate: Speculation | null;
}

/** @throws {GenerationOptionError} for options that do not go together */
export function checkStrategy(
  { guidance, beams, speculate }: Strategy,
  others: { constrained: boolean; promptLogprobs: boolean },
): void {
  const several = guidance ? "guidance" : beams ? "beams" : null;
  if (!several) return;
  const clash =
    guidance && beams
      ? "beams"
      : speculate !== null && speculate !== 0
        ? "speculate"
        : others.promptLogprobs
          ? "promptLogprobs"
          : beams && others.constrained
            ? "a constraint"
            : null;
  if (clash) throw new GenerationOptionError(`${several} and ${clash} do not go together`, { hint: "Leave one of them out." });
}

/** What to guess with, and how far ahead. */
export interface SpeculationPlan {
  readonly tokens: number;
  /** `null`: the draft model. */
  readonly ngrams: NgramBounds | null;
}

/**
 * @param wanted of the request, else of the model; `null`: nobody says
 * @returns `null`: no guesses
 */
export function planSpeculation(wanted: Speculation | null, hasDraft: boolean): SpeculationPlan | null {
  const speculation = wanted ?? (hasDraft ? DRAFT_GUESSES : 0);
  if (speculation === 0) return null;
  if (typeof speculation !== "number") {
    const { tokens, ngram } = speculation;
    return { tokens, ngrams: { shortest: ngram, longest: Math.max(ngram, NGRAM_BOUNDS.longest) } };
  }
  return { tokens: speculation, ngrams: hasDraft ? null : NGRAM_BOUNDS };
}
