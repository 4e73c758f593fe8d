// Sampling parameters from outside: every key known, every value of its kind and in range.

import { SamplingParameterError } from "./errors.js";
import { nearestName } from "./nearest-name.js";
import { GREEDY, type SamplingParameters } from "./parameters.js";

interface Rule {
  readonly expected: string;
  readonly accepts: (value: unknown) => boolean;
}

const number = (expected: string, accepts: (value: number) => boolean): Rule => ({
  expected,
  accepts: (value) => typeof value === "number" && Number.isFinite(value) && accepts(value),
});
const isId = (value: unknown): value is number => Number.isSafeInteger(value) && (value as number) >= 0;
const isBias = (value: unknown): boolean =>
  Array.isArray(value) && value.length === 2 && isId(value[0]) && Number.isFinite(value[1]);

const RULES: Readonly<Record<keyof SamplingParameters, Rule>> = {
  temperature: number("a number of at least 0 (0 = greedy)", (value) => value >= 0),
  topK: number("a whole number of at least 0 (0 = off)", (value) => Number.isInteger(value) && value >= 0),
  topP: number("a number above 0 and at most 1 (1 = off)", (value) => value > 0 && value <= 1),
  minP: number("a number from 0 to 1 (0 = off)", (value) => value >= 0 && value <= 1),
  typical: number("a number from 0 to 1 (0 or 1 = off)", (value) => value >= 0 && value <= 1),
  repetitionPenalty: number("a number above 0 (1 = off)", (value) => value > 0),
  penaltySustain: number("a whole number of tokens, or -1 for all", (value) => Number.isInteger(value) && value >= -1),
  penaltyDecay: number("a whole number of tokens of at least 0", (value) => Number.isInteger(value) && value >= 0),
  frequencyPenalty: number("a finite number (0 = off)", () => true),
  presencePenalty: number("a finite number (0 = off)", () => true),
  logitBias: {
    expected: "a list of [id, finite number] pairs",
    accepts: (value) => Array.isArray(value) && value.every(isBias),
  },
  bannedIds: { expected: "a list of token ids", accepts: (value) => Array.isArray(value) && value.every(isId) },
};

/** Names of all sampling parameters. */
export const SAMPLING_PARAMETERS = Object.keys(RULES) as readonly (keyof SamplingParameters)[];

/**
 * Completes and checks sampling parameters; `undefined` counts as not given.
 *
 * @param base what is not given; default: greedy, everything off
 * @throws {SamplingParameterError} naming the parameter, what it got and what it takes
 */
export function validateSampling(partial: Partial<SamplingParameters>, base: SamplingParameters = GREEDY): SamplingParameters {
  const complete: Record<string, unknown> = { ...base };
  for (const [name, value] of Object.entries(partial)) {
    if (value === undefined) continue;
    if (!Object.hasOwn(RULES, name)) throw unknownParameter(name);
    const problem = samplingProblem(name as keyof SamplingParameters, value);
    if (problem) throw problem;
    complete[name] = value;
  }
  return complete as unknown as SamplingParameters;
}

/** What is wrong with one value, or `null`. */
export function samplingProblem(name: keyof SamplingParameters, value: unknown): SamplingParameterError | null {
  const rule = RULES[name];
  if (rule.accepts(value)) return null;
  return new SamplingParameterError(`${name} cannot be ${show(value)}`, {
    expected: rule.expected,
    details: { parameter: name, value: show(value) },
  });
}

function unknownParameter(name: string): SamplingParameterError {
  const nearest = nearestName(name, SAMPLING_PARAMETERS);
  return new SamplingParameterError(`there is no sampling parameter "${name}"`, {
    hint: nearest ? `Did you mean ${nearest}?` : `The parameters are ${SAMPLING_PARAMETERS.join(", ")}.`,
    details: { parameter: name, nearest },
  });
}

/** A value as a message shows it, short. */
function show(value: unknown): string {
  if (typeof value === "number" || value === null) return String(value);
  const text = JSON.stringify(value) ?? String(value);
  return text.length > 60 ? `${text.slice(0, 57)}…` : text;
}
