// What goes into a generation and what comes out: plain values, which may cross a process
// border, be queued or be kept.

import type { SamplingParameters } from "../sampling/parameters.js";

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
}

export interface GenerationRequest {
  /** The prompt. */
  readonly ids: ArrayLike<number>;
  /** The answer's text goes on in the prompt's: a space that its first word brings along is kept. Default false. */
  readonly continuation?: boolean;
  readonly options?: GenerationOptions;
}

/** A piece of the answer. Text may lag behind ids: half characters and possible stop strings are held back. */
export interface GenerationEvent {
  readonly text: string;
  readonly ids: readonly number[];
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

export interface GenerationResult {
  readonly text: string;
  /** Generated ids, the stop id excluded; those that spell a stop string are in it. */
  readonly ids: readonly number[];
  readonly promptTokens: number;
  readonly finishReason: FinishReason;
  readonly timings: Timings;
}
