// The options of every command that generates: how tokens are chosen and what ends an answer.

import { type Command, Option } from "commander";
import type { GenerateOptions } from "../index.js";
import { type AdapterFlags, adapterChoicesOf, useAdapterOption } from "./adapter-options.js";
import { collected, count, decimal, logitBias, tokenIds, wholeNumber } from "./flag-values.js";
import { addSettableOptions } from "./settings.js";

/** As commander hands them over. */
export interface AnswerFlags extends AdapterFlags {
  maxTokens?: number;
  temperature?: number;
  topK?: number;
  topP?: number;
  minP?: number;
  typical?: number;
  repetitionPenalty?: number;
  penaltySustain?: number;
  penaltyDecay?: number;
  frequencyPenalty?: number;
  presencePenalty?: number;
  seed?: number;
  logitBias?: [number, number][];
  banIds?: number[];
  stop?: string[];
  stopIds?: number[];
  ignoreEos?: boolean;
}

const samplingOptions = (): Option[] => [
  new Option("-n, --max-tokens <n>", "most tokens to generate (default: to the end of the context)").argParser(count),
  new Option("--temperature <t>", "0 = always the likeliest token").argParser(decimal),
  new Option("--top-k <k>", "keep the k likeliest; 0 = off").argParser(wholeNumber),
  new Option("--top-p <p>", "keep the likeliest up to this mass; 1 = off").argParser(decimal),
  new Option("--min-p <p>", "keep those at least this share as likely as the best; 0 = off").argParser(decimal),
  new Option("--typical <p>", "locally typical sampling; 0 = off").argParser(decimal),
  new Option("--repetition-penalty <v>", "against repeating recent tokens; 1 = off").argParser(decimal),
  new Option("--penalty-sustain <n>", "tokens that get the full penalty; -1 = all").argParser(wholeNumber),
  new Option("--penalty-decay <n>", "older tokens over which the penalty fades").argParser(wholeNumber),
  new Option("--frequency-penalty <v>", "per earlier use of a token; 0 = off").argParser(decimal),
  new Option("--presence-penalty <v>", "for any earlier use of a token; 0 = off").argParser(decimal),
  new Option("--seed <n>", "makes a sampled answer repeatable").argParser(wholeNumber),
];

const endingOptions = (): Option[] => [
  new Option("--logit-bias <list>", "added to logits, such as 5=-1.5,17=2").argParser(logitBias),
  new Option("--ban-ids <ids>", "ids that are never chosen").argParser(tokenIds),
  new Option("--stop <text>", "end before this text; may be repeated").argParser(collected),
  new Option("--stop-ids <ids>", "end at these ids, too").argParser(tokenIds),
  new Option("--ignore-eos", "go on past the model's end tokens"),
  useAdapterOption(),
];

export function addAnswerOptions(command: Command): Command {
  const group = "Answers (defaults are the model's own):";
  addSettableOptions(
    command,
    samplingOptions().map((option) => option.helpGroup(group)),
  );
  for (const option of endingOptions()) command.addOption(option.helpGroup(group));
  return command;
}

/** What was said, and nothing else: defaults are the model's. */
export function answerOptionsOf(flags: AnswerFlags): GenerateOptions {
  const { maxTokens, temperature, topK, topP, minP, typical, repetitionPenalty, penaltySustain, penaltyDecay } = flags;
  const { frequencyPenalty, presencePenalty, seed, banIds: bannedIds, stop, stopIds, ignoreEos } = flags;
  const all: GenerateOptions = {
    ...{ maxTokens, temperature, topK, topP, minP, typical, repetitionPenalty, penaltySustain, penaltyDecay },
    ...{ frequencyPenalty, presencePenalty, seed, logitBias: flags.logitBias, bannedIds, stop, stopIds, ignoreEos },
    ...adapterChoicesOf(flags),
  };
  return Object.fromEntries(Object.entries(all).filter(([, value]) => value !== undefined));
}
