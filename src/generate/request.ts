// What goes into a generation and what comes out: plain values, which may cross a process
// border, be queued or be kept.

import type { SamplingParameters } from "../sampling/parameters.js";
import type { ToolCall } from "../text/messages.js";
import type { ToolCallDelta } from "../text/tools/tool-call-parser.js";
import type { AdapterChoice } from "./adapters.js";
import type { BeamShape } from "./beams/beam-search.js";
import type { Guidance, Speculation } from "./strategy-options.js";

/** Sampling parameters and what ends the answer; what is not given comes from the model's defaults. */
export interface GenerationOptions extends Partial<SamplingParameters> {
  /** Most tokens to generate; default: to the end of the context. */
  readonly maxTokens?: number;
  /** Whole number from 0; makes a sampled answer repeatable. Default: random. */
  readonly seed?: number;
  /** End before any of these strings. */
  readonly stop?: string | readonly string[];
  /** End at these ids, besides the model's own. */
  readonly stopIds?: readonly number[];
  /** Go on past the model's end-of-sequence ids; default false. */
  readonly ignoreEos?: boolean;
  /** Log-probabilities with every generated token, and so many likeliest ids beside it: 0 to 100. Default: none. */
  readonly logprobs?: number;
  /**
   * The same for the prompt's tokens: the whole prompt is computed then, nothing of it reused.
   * With this `maxTokens` may be 0. Default: none.
   */
  readonly promptLogprobs?: number;
  /** LoRA adapters to answer with, of those that are loaded; several are added up. Default: none. */
  readonly adapters?: readonly AdapterChoice[];
  /** Every token is chosen from a mixture of what follows the prompt and what follows a negative one. */
  readonly guidance?: Guidance;
  /**
   * Beam search: so many beams grow `length` ids ahead of what is said, scored by log-probability
   * among what sampling leaves to choose from; nothing is drawn, so `seed` has no part in it.
   * Takes `count` of the model's `maxSequences`.
   */
  readonly beams?: BeamShape;
  /** Guesses ahead, judged by the model: the answer is the same. Default: as the model was loaded. */
  readonly speculate?: Speculation;
}

export interface GenerationRequest {
  /** The prompt. */
  readonly ids: ArrayLike<number>;
  /** The answer's text goes on in the prompt's: a space that its first word brings along is kept. Default false. */
  readonly continuation?: boolean;
  readonly options?: GenerationOptions;
}

/** A token as it is shown beside a log-probability. */
export interface ShownToken {
  readonly id: number;
  /** Its own bytes as text: U+FFFD where they are a part of a character; a special token's spelling. */
  readonly text: string;
  /** Its own bytes, UTF-8. */
  readonly bytes: readonly number[];
}

export interface LikelyToken extends ShownToken {
  /** Under the plain logits: temperature 1, no penalty, nothing dropped. */
  readonly logprob: number;
}

/** A token and what else could have stood in its place. */
export interface TokenInfo extends LikelyToken {
  /** The likeliest ids there, best first; as many as were asked for. */
  readonly top: readonly LikelyToken[];
}

/** A prompt's token; nothing comes before the first one, so that has no log-probability. */
export interface PromptTokenInfo extends ShownToken {
  readonly logprob: number | null;
  readonly top: readonly LikelyToken[];
}

/** A piece of the answer. Text may lag behind ids: half characters and possible stop strings are held back. */
export interface GenerationEvent {
  readonly text: string;
  readonly ids: readonly number[];
  /** One for each of `ids`, where `logprobs` was asked. */
  readonly tokens?: readonly TokenInfo[];
  /** Pieces of calls, where the model may call tools; the text is what stands outside of them. */
  readonly toolCalls?: readonly ToolCallDelta[];
}

/** `stop`: an end id or a stop string; `length`: maxTokens or the end of the context. */
export type FinishReason = "stop" | "length";

export interface Timings {
  /** From the request to the first token, waiting included, ms. */
  readonly firstTokenMs: number;
  /** From the first step to the first token, ms. */
  readonly promptMs: number;
  /** From the first token to the end, ms. */
  readonly generationMs: number;
  /** Prompt tokens computed, reused ones not counted, per second. */
  readonly promptTokensPerSecond: number;
  /** Tokens after the first, per second; 0 when there is none. */
  readonly tokensPerSecond: number;
  /** Prompt tokens whose KV was still there from an earlier request. */
  readonly reusedTokens: number;
}

/** Ids that were guessed ahead, and those of them that stood. */
export interface Guesses {
  readonly proposed: number;
  readonly accepted: number;
}

export interface GenerationResult {
  readonly text: string;
  /** What the model calls, where it may call tools and does; the last one may be unfinished at the token limit. */
  readonly toolCalls?: readonly ToolCall[];
  /** Generated ids, the stop id excluded; those that spell a stop string are in it. */
  readonly ids: readonly number[];
  readonly promptTokens: number;
  readonly finishReason: FinishReason;
  readonly timings: Timings;
  /** One for each of `ids`, where `logprobs` was asked. */
  readonly tokens?: readonly TokenInfo[];
  /** One for each token of the prompt, where `promptLogprobs` was asked. */
  readonly promptLogprobs?: readonly PromptTokenInfo[];
  /** Only where guessing was on. */
  readonly speculation?: Guesses;
}
