// What a program and its engine say to each other: plain values only, so that a message can
// cross a process border, be kept or be queued. Every request carries an id and gets exactly
// one `done` or `failed`, after any number of events of its own. Tokens of all sequences
// cross in one `step` message per step, and the program acknowledges those, so that a slow
// reader bounds what is under way (`outbox.ts`).

import type { AdapterChoice } from "../generate/adapters.js";
import type { Plan } from "../memory/plan.js";
import type { PlanRequestData } from "../memory/plan-request.js";
import type {
  ChatMessage,
  ChatOptions,
  EngineStatus,
  GenerateOptions,
  GenerationEvent,
  GenerationResult,
  LoadOptions,
  ModelInfo,
  PlanOptions,
  Tool,
} from "./model.js";

/** LoadOptions without what cannot cross: functions, signals, and the choice of the engine itself. */
export type EngineOptions = Omit<LoadOptions, "signal" | "onProgress" | "engine">;

/** GenerateOptions without the signal, which crosses as a `cancel` message. */
export type AnswerOptions = Omit<GenerateOptions, "signal">;

/** The same of ChatOptions. */
export type ChatAnswerOptions = Omit<ChatOptions, "signal">;

export interface LoadCall {
  readonly op: "load";
  readonly path: string;
  readonly options: EngineOptions;
}

export interface PlanCall {
  readonly op: "plan";
  readonly path: string;
  readonly options: PlanOptions;
}

export interface GenerateCall {
  readonly op: "generate";
  readonly prompt: string | Int32Array;
  readonly options: AnswerOptions;
}

export interface ChatCall {
  readonly op: "chat";
  readonly messages: readonly ChatMessage[];
  readonly options: ChatAnswerOptions;
}

export interface TokenizeCall {
  readonly op: "tokenize";
  readonly text: string;
  readonly addBos: boolean;
  readonly parseSpecial: boolean;
}

export interface DetokenizeCall {
  readonly op: "detokenize";
  readonly ids: Int32Array;
}

export interface TokenizeChatCall {
  readonly op: "tokenizeChat";
  readonly messages: readonly ChatMessage[];
  readonly tools: readonly Tool[];
}

/** Answered by one `row` event for each position, in order, then `done`. */
export interface LogitsCall {
  readonly op: "logits";
  readonly adapters: readonly AdapterChoice[];
  readonly ids: Int32Array;
  readonly last: number;
}

export interface LogprobsCall {
  readonly op: "logprobs";
  readonly adapters: readonly AdapterChoice[];
  readonly ids: Int32Array;
}

export interface EmbedCall {
  readonly op: "embed";
  readonly adapters: readonly AdapterChoice[];
  readonly inputs: ReadonlyArray<string | Int32Array>;
}

export interface StatusCall {
  readonly op: "status";
}

/** What the value of `done` is, for each kind of request. */
export interface Replies {
  readonly load: { readonly info: ModelInfo; readonly plan: Plan; readonly planning: PlanRequestData };
  readonly plan: Plan;
  readonly generate: GenerationResult;
  readonly chat: GenerationResult;
  readonly tokenize: Int32Array;
  readonly detokenize: string;
  readonly tokenizeChat: Int32Array;
  readonly logits: null;
  readonly logprobs: Float32Array;
  readonly embed: Float32Array[];
  readonly status: EngineStatus;
}

/** Requests to a loaded model. */
export type ModelCall =
  | GenerateCall
  | ChatCall
  | TokenizeCall
  | DetokenizeCall
  | TokenizeChatCall
  | LogitsCall
  | LogprobsCall
  | EmbedCall
  | StatusCall;

export type Call = LoadCall | PlanCall | ModelCall;

export type ToEngine =
  | { readonly type: "call"; readonly id: number; readonly call: Call }
  /** The caller no longer wants the answer; the engine frees what it holds and says `failed`. */
  | { readonly type: "cancel"; readonly id: number }
  /** So many `step` messages have been read. */
  | { readonly type: "ack"; readonly steps: number }
  /** Give everything back and end. */
  | { readonly type: "dispose" };

/** An error as it crosses the border; `wire-errors.ts` writes and revives it. */
export interface WireError {
  /** Name of the class. */
  readonly name: string;
  readonly message: string;
  /** `null`: not an ExllamaError. */
  readonly code: string | null;
  readonly hint: string | null;
  readonly details: Readonly<Record<string, unknown>>;
  /** Other own fields of the class that are plain data. */
  readonly fields: Readonly<Record<string, unknown>>;
  readonly stack: string | null;
  readonly cause: WireError | null;
}

export type FromEngine =
  | { readonly type: "progress"; readonly id: number; readonly loadedBytes: number; readonly totalBytes: number }
  /** What each sequence says that says something. */
  | { readonly type: "step"; readonly pieces: ReadonlyArray<readonly [id: number, piece: GenerationEvent]> }
  | { readonly type: "row"; readonly id: number; readonly row: Float32Array }
  | { readonly type: "done"; readonly id: number; readonly value: Replies[keyof Replies] }
  | { readonly type: "failed"; readonly id: number; readonly error: WireError };
