// The library's face: what loadModel() takes and what a loaded model can do. Everything here
// is either plain data that crosses to the engine's process, or an interface that
// `client.ts` implements over that border.

import type { AdapterChoice } from "../generate/adapters.js";
import type { SamplingDefaults } from "../generate/defaults.js";
import type {
  FinishReason,
  GenerationEvent,
  GenerationOptions,
  GenerationResult,
  Guesses,
  LikelyToken,
  PromptTokenInfo,
  Timings,
  TokenInfo,
} from "../generate/request.js";
import type { SchedulerCounters, SchedulerLoad } from "../generate/scheduler-status.js";
import type { ScoreOptions } from "../generate/score.js";
import type { Speculation } from "../generate/strategy-options.js";
import type { Plan, PlannedAdapter } from "../memory/plan.js";
import type { PlanRequestData } from "../memory/plan-request.js";
import type { Constraint } from "../structured/constraint.js";
import type { ChatMessage, Role, TextPart, Tool, ToolCall, ToolChoice } from "../text/messages.js";
import type { ToolCallDelta } from "../text/tools/tool-call-parser.js";

/** What to plan: every field is also an option of the command line, under its usual spelling. */
export interface PlanOptions {
  /** `auto` (default): CUDA where a usable GPU is, else the CPU. */
  backend?: "auto" | "cpu" | "cuda";
  /**
   * Devices: real ones (`cuda:0,cuda:1`, `cpu`), or described ones for planning only
   * (`24GiB,24GiB`, `a=24GiB:2GiB`: `[id=]SIZE[:USED]`). Default: all that the backend sees.
   */
  devices?: string;
  /** Most that this process may take on each device, everything included: `"5,2.5,8GiB"` or GiB numbers; default `auto`. */
  gpuSplit?: string | readonly number[];
  /** Default: `even` when gpuSplit is given, else `fewest`. */
  splitMode?: "even" | "fewest" | "fill";
  /** Longest sequence; default `auto` = min(model's limit, 8192, what fits). */
  ctx?: number | "auto" | "max";
  /** KV cache type; default f16. */
  cache?: "f16" | "q8" | "q4";
  /** Size of the KV pool in tokens; default: ctx. */
  cacheTokens?: number;
  /** Sequences that may run at once; default 1. */
  maxSequences?: number;
  /**
   * Most tokens of one prefill step. Default: 256 on the CPU, on GPUs 2048 or, where only so the
   * context fits, 1024, 512 or 256.
   */
  prefillChunk?: number;
  /** Most memory the engine may take on the CPU, e.g. `"8GiB"` or bytes; default 80 % of what is free. */
  cpuMemory?: string | number;
  /** CPU: f32 activations, exact weights and an f32 KV cache; slow, the oracle for tests. Default false. */
  cpuExact?: boolean;
  /** Folder of a draft model, whose guesses speed answers up; in the same plan, whole on one device. */
  draft?: string;
  /** Linear RoPE scaling (positions divided by this), over the model's own. */
  ropeScale?: number;
  /** NTK alpha, over the model's own. */
  ropeAlpha?: number;
  /** RoPE base, over the model's own. */
  ropeTheta?: number;
  /** LoRA adapters in PEFT's format that requests may use: name → folder (or its weights file). */
  adapters?: Readonly<Record<string, string>>;
}

export interface LoadOptions extends PlanOptions {
  /**
   * Guesses ahead of answers, so many tokens in a step: of the draft model, without one of the
   * text itself; `{ tokens, ngram }`: of the text anyway, where its last `ngram` tokens came before.
   * Answers stay the same. Default: 4 with a draft model, else 0.
   */
  speculate?: Speculation;
  /** CPU compute threads; default: the number of cores this process may use. */
  threads?: number;
  /** CPU: ask for huge pages (Linux); default true where it works. */
  hugePages?: boolean;
  /** GPUs: hidden states go from card to card directly where cards can reach each other; default true. */
  peers?: boolean;
  /**
   * What happens where memory or places are short: `"wait"` (default), `"preempt"` (more requests at
   * once; the youngest is computed again when pages run out) or `"refuse"` (NoRoomError at once).
   */
  onPressure?: "wait" | "preempt" | "refuse";
  /** Requests that may wait; one more fails with QueueFullError. Default: any number. */
  maxWaiting?: number;
  /** Run the engine in a child process (default) or in a worker thread of this one. */
  engine?: "process" | "thread";
  /** Ends the loading; everything taken is given back and the promise rejects with `signal.reason`. */
  signal?: AbortSignal;
  onProgress?: (progress: { loadedBytes: number; totalBytes: number }) => void;
}

/**
 * Sampling defaults are the model's generation_config.json where it says something, else
 * ExLlama's (src/generate/defaults.ts).
 */
export interface GenerateOptions extends Omit<GenerationOptions, "guidance"> {
  /**
   * Every token is chosen from a mixture of what follows the prompt and what follows a negative
   * one: log p = (1 − scale) · log p(negative) + scale · log p(prompt). A negative prompt of text
   * becomes ids as the prompt does; in a chat it is the same chat with this system message.
   * Takes two of the model's `maxSequences`.
   */
  readonly guidance?: { readonly scale: number; readonly negative: readonly number[] | string };
  /** What the answer must look like: JSON, a JSON schema, a regular expression, one of several texts, a grammar. */
  readonly constraint?: Constraint;
  /** Text prompts: `<|special|>` spellings become special tokens; default false. */
  readonly parseSpecial?: boolean;
  /** Text prompts: begin with BOS; default: as the tokenizer says. */
  readonly addBos?: boolean;
  /** Ends the answer; the iteration and `result` reject with `signal.reason`. */
  readonly signal?: AbortSignal;
}

export type {
  AdapterChoice,
  FinishReason,
  GenerationEvent,
  GenerationResult,
  Guesses,
  LikelyToken,
  PromptTokenInfo,
  SchedulerCounters,
  SchedulerLoad,
  ScoreOptions,
  Speculation,
  Timings,
  TokenInfo,
};

/**
 * Pieces of text as they come, for one reader; breaking out of the loop ends the request and
 * frees its memory (`result` then rejects with GenerationCancelledError). A generation that
 * nobody reads still runs to its end.
 */
export interface Generation extends AsyncIterable<string> {
  /** The same with ids and, where `logprobs` was asked, log-probabilities; instead of the iteration over text. */
  events(): AsyncIterable<GenerationEvent>;
  /** Settles when the answer is complete; rejects as the iteration does. */
  readonly result: Promise<GenerationResult>;
}

export type { ChatMessage, Role, TextPart, Tool, ToolCall, ToolCallDelta, ToolChoice };

export interface ChatOptions extends GenerateOptions {
  /** Functions that the model may call; what it calls is in the result's `toolCalls`. */
  readonly tools?: readonly Tool[];
  /** Default `auto`. With `required` or a function the answer is calls only, with arguments that the schemas accept. */
  readonly toolChoice?: ToolChoice;
  /** The answer may hold several calls; default true. */
  readonly parallelToolCalls?: boolean;
}

export interface ModelInfo {
  readonly source: string;
  readonly architecture: string;
  readonly parameters: number;
  readonly quantization: string;
  readonly vocabSize: number;
  readonly contextLimit: number | null;
  readonly hasChatTemplate: boolean;
  readonly backend: "cpu" | "cuda";
  /** Those that requests may use. */
  readonly adapters: readonly PlannedAdapter[];
  /** What sampling is where a request does not say, and whose wish that is. */
  readonly sampling: SamplingDefaults;
}

/** What a device's memory is used for now. */
export interface DeviceMemory {
  /** As the plan names it; plan entries that share a card are one. */
  readonly id: string;
  /** Most that this process takes there, by the plan, bytes. */
  readonly planned: number;
  /**
   * What it takes now, bytes: the engine's resident memory on the CPU; on a card what is used beyond
   * what was used before loading, others' allocations since then included. `null`: it cannot be told.
   */
  readonly measured: number | null;
}

/** What a loaded model is doing. */
export interface EngineStatus {
  readonly scheduler: SchedulerLoad;
  /** Since loading. */
  readonly counters: SchedulerCounters;
  /** Tokens guessed ahead since loading, and those of them that stood. */
  readonly guesses: Guesses;
  readonly devices: readonly DeviceMemory[];
}

/**
 * A loaded model. Requests may overlap: they wait for one another or share steps, see `maxSequences`.
 * Between requests it does not keep a program running: a script that ends without dispose()
 * ends, and the engine with it. When the engine is killed or crashes, requests reject with
 * EngineDiedError, and a new loadModel() starts a fresh one.
 */
export interface Model extends AsyncDisposable {
  readonly info: ModelInfo;
  readonly plan: Plan;
  /** What the plan was made from: `exllama-ts/plan` plans it anew with other wishes, in a browser too. */
  readonly planning: PlanRequestData;
  generate(prompt: string | readonly number[], options?: GenerateOptions): Generation;
  /** Renders the model's chat template and answers; KV of the common prefix with earlier turns is reused. */
  chat(messages: readonly ChatMessage[], options?: ChatOptions): Generation;
  /** Text → ids; without BOS and without special tokens unless asked. */
  tokenize(text: string, options?: { addBos?: boolean; parseSpecial?: boolean }): Promise<number[]>;
  detokenize(ids: readonly number[]): Promise<string>;
  /** Ids of a conversation as the chat template writes it, ready for an answer. */
  tokenizeChat(messages: readonly ChatMessage[], options?: { tools?: readonly Tool[] }): Promise<number[]>;
  /** Logits `[last][vocab]` at the last positions of a prompt. */
  logits(ids: readonly number[], options?: ScoreOptions & { last?: number }): Promise<Float32Array[]>;
  /** Log-probability of each of ids[1…] given those before it. */
  logprobs(ids: readonly number[], options?: ScoreOptions): Promise<Float32Array>;
  /** One vector `[hidden]` of length 1 for each input: the mean of its final hidden states. */
  embed(inputs: ReadonlyArray<string | readonly number[]>, options?: ScoreOptions): Promise<Float32Array[]>;
  /** What runs, what waits, and the memory that is used. */
  status(): Promise<EngineStatus>;
  /** Ends the engine and gives all memory back; requests in flight reject. Idempotent. */
  dispose(): Promise<void>;
}
