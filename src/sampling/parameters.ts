// How the next token is chosen. One flat value that crosses process borders; every field has
// a meaning of its own and a default that switches it off or is the field's usual one.

export interface SamplingParameters {
  /** 0 = greedy: the largest logit, the lowest id among equals. */
  readonly temperature: number;
  /** Keep the k most likely; 0 = off. */
  readonly topK: number;
  /** Keep the smallest set whose probabilities reach p, the crossing token included; 1 = off. */
  readonly topP: number;
  /** Keep tokens at least this share as likely as the best one; 0 = off. */
  readonly minP: number;
  /** Locally typical sampling (Meister et al. 2022): keep mass `typical` nearest the entropy; 0 or 1 = off. */
  readonly typical: number;
  /** ExLlama's: logit > 0 ? ÷ v : × v for recent ids; 1 = off. */
  readonly repetitionPenalty: number;
  /** The newest tokens that get the full penalty; −1 = all. */
  readonly penaltySustain: number;
  /** Over these many older tokens the penalty falls linearly to 1. */
  readonly penaltyDecay: number;
  /** OpenAI's: logit − count · value, over generated tokens. */
  readonly frequencyPenalty: number;
  /** OpenAI's: logit − value for ids already generated. */
  readonly presencePenalty: number;
  /** Added to the logits of these ids. */
  readonly logitBias: ReadonlyArray<readonly [id: number, bias: number]>;
  /** Never chosen. */
  readonly bannedIds: readonly number[];
}

/** Greedy, everything off. Programs that talk to people choose their own defaults on top. */
export const GREEDY: SamplingParameters = {
  temperature: 0,
  topK: 0,
  topP: 1,
  minP: 0,
  typical: 0,
  repetitionPenalty: 1,
  penaltySustain: 256,
  penaltyDecay: 128,
  frequencyPenalty: 0,
  presencePenalty: 0,
  logitBias: [],
  bannedIds: [],
};

/** Everything the choice of one token depends on beside its logits. */
export interface SampleRequest {
  readonly parameters: SamplingParameters;
  /** Ids so far, prompt first, newest last; penalties look at its end. */
  readonly history: Int32Array;
  /** How many of `history` are prompt: frequency and presence penalties count only what follows. */
  readonly promptLength: number;
  /** The draw is a pure function of (seed, position): the same on any batch. */
  readonly seed: number;
  /** Position of the token being chosen. */
  readonly position: number;
  /** Allowed ids as a bit mask, lowest bit of word 0 = id 0; `null`: all. */
  readonly mask: Uint32Array | null;
}
