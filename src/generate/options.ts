// A request's options, checked and completed: what is to be sampled how, and what ends it.

import { randomInt } from "node:crypto";
import type { AdapterUse } from "../model/adapter.js";
import type { ModelSpec } from "../model/spec.js";
import { nearestName } from "../sampling/nearest-name.js";
import { GREEDY, type SamplingParameters } from "../sampling/parameters.js";
import { SAMPLING_PARAMETERS, validateSampling } from "../sampling/validate.js";
import { ADAPTER_CHOICES, areAdapterChoices, resolveAdapters } from "./adapters.js";
import { GenerationOptionError, TokenIdError } from "./errors.js";
import type { GenerationOptions } from "./request.js";
import { STRATEGY_RULES, type Strategy } from "./strategy-options.js";

/** GenerationOptions, complete. */
export interface ResolvedOptions {
  readonly sampling: SamplingParameters;
  /** `null`: to the end of the context. */
  readonly maxTokens: number | null;
  readonly seed: number;
  readonly stopStrings: readonly string[];
  readonly stopIds: ReadonlySet<number>;
  /** Likeliest ids to tell beside each generated token; `null`: no log-probabilities at all. */
  readonly logprobs: number | null;
  /** The same for the prompt's tokens. */
  readonly promptLogprobs: number | null;
  /** In the order of their indices. */
  readonly adapters: readonly AdapterUse[];
  readonly strategy: Strategy;
}

/** Most likeliest ids that are told beside a token. */
const MOST_LOGPROBS = 100;

type OwnOption = Exclude<keyof GenerationOptions, keyof SamplingParameters>;

interface Rule {
  readonly expected: string;
  readonly accepts: (value: unknown, options: GenerationOptions) => boolean;
}

const isWhole = (value: unknown, least: number): boolean => Number.isSafeInteger(value) && (value as number) >= least;
const LOGPROBS_RULE: Rule = {
  expected: `a whole number from 0 to ${MOST_LOGPROBS}`,
  accepts: (value) => isWhole(value, 0) && (value as number) <= MOST_LOGPROBS,
};
// Half of a surrogate pair could only match by cutting a character in two.
const isStop = (value: unknown): boolean => typeof value === "string" && value !== "" && !/\p{Surrogate}/u.test(value);

const OWN_RULES: Readonly<Record<OwnOption, Rule>> = {
  maxTokens: {
    expected: "a whole number of at least 1, or 0 when only promptLogprobs are wanted",
    accepts: (value, { promptLogprobs }) => isWhole(value, promptLogprobs === undefined ? 1 : 0),
  },
  seed: { expected: "a whole number from 0 to 2^53 - 1", accepts: (value) => isWhole(value, 0) },
  stop: {
    expected: "a string or a list of strings, none empty, each whole characters",
    accepts: (value) => isStop(value) || (Array.isArray(value) && value.every(isStop)),
  },
  stopIds: { expected: "a list of token ids", accepts: (value) => Array.isArray(value) && value.every((id) => isWhole(id, 0)) },
  ignoreEos: { expected: "true or false", accepts: (value) => typeof value === "boolean" },
  logprobs: LOGPROBS_RULE,
  promptLogprobs: LOGPROBS_RULE,
  adapters: { expected: ADAPTER_CHOICES, accepts: areAdapterChoices },
  ...STRATEGY_RULES,
};

const ALL_OPTIONS: readonly string[] = [...Object.keys(OWN_RULES), ...SAMPLING_PARAMETERS];

/**
 * Checks a request's options and completes them: explicit ones win, then the model's defaults.
 * Temperature 0 means greedy, the plain largest logit: then defaults add no penalty either.
 *
 * @param eosIds the model's and the tokenizer's
 * @throws {GenerationOptionError}, {@link SamplingParameterError}, {@link TokenIdError}
 */
export function resolveOptions(
  options: GenerationOptions,
  defaults: SamplingParameters,
  spec: Pick<ModelSpec, "vocabSize" | "bosId" | "adapters">,
  eosIds: readonly number[],
): ResolvedOptions {
  const { maxTokens, seed, stop, stopIds, ignoreEos, logprobs, promptLogprobs, ...others } = checkOwnOptions(options);
  const { adapters, guidance, beams, speculate, ...sampling } = others;
  const greedy = (sampling.temperature ?? defaults.temperature) === 0;
  const parameters = validateSampling(sampling, greedy ? GREEDY : defaults);
  checkIdList("stopIds", stopIds ?? [], spec.vocabSize);
  checkIdList("bannedIds", parameters.bannedIds, spec.vocabSize);
  checkIdList(
    "logitBias",
    parameters.logitBias.map(([id]) => id),
    spec.vocabSize,
  );
  return {
    sampling: greedy ? parameters : banBos(parameters, spec.bosId, eosIds),
    maxTokens: maxTokens ?? null,
    seed: seed ?? randomInt(2 ** 48 - 1),
    stopStrings: stop === undefined ? [] : typeof stop === "string" ? [stop] : stop,
    stopIds: new Set([...(ignoreEos ? [] : eosIds), ...(stopIds ?? [])]),
    logprobs: logprobs ?? null,
    promptLogprobs: promptLogprobs ?? null,
    adapters: resolveAdapters(adapters ?? [], spec.adapters),
    strategy: { guidance: guidance ?? null, beams: beams ?? null, speculate: speculate ?? null },
  };
}

/**
 * A sampled answer never begins a new document: ExLlama suppresses BOS. Greedy decoding does
 * not, it is the reference's argmax; and where BOS is also an end id it must stay possible.
 */
function banBos(parameters: SamplingParameters, bosId: number | null, eosIds: readonly number[]): SamplingParameters {
  if (bosId === null || eosIds.includes(bosId) || parameters.bannedIds.includes(bosId)) return parameters;
  return { ...parameters, bannedIds: [...parameters.bannedIds, bosId] };
}

function checkOwnOptions(options: GenerationOptions): GenerationOptions {
  for (const [name, value] of Object.entries(options)) {
    if (!ALL_OPTIONS.includes(name)) throw unknownOption(name);
    if (value === undefined || !Object.hasOwn(OWN_RULES, name)) continue;
    const rule = OWN_RULES[name as OwnOption];
    if (rule.accepts(value, options)) continue;
    const shown = typeof value === "number" ? String(value) : (JSON.stringify(value) ?? String(value));
    throw new GenerationOptionError(`${name} cannot be ${shown}`, { expected: rule.expected, details: { option: name } });
  }
  return options;
}

function unknownOption(name: string): GenerationOptionError {
  const nearest = nearestName(name, ALL_OPTIONS);
  return new GenerationOptionError(`there is no generation option "${name}"`, {
    hint: nearest ? `Did you mean ${nearest}?` : `The options are ${ALL_OPTIONS.join(", ")}.`,
    details: { option: name, nearest },
  });
}

function checkIdList(name: string, ids: readonly number[], vocabSize: number): void {
  const wrong = ids.find((id) => id >= vocabSize);
  if (wrong !== undefined) throw new TokenIdError(`an id in ${name}`, wrong, vocabSize);
}
