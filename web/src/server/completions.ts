// Answers from the public API, as this page uses it: streamed text with the probabilities of
// its tokens, and one choice out of a few.

import type { SessionSampling, SessionSettings, TokenProbability } from "../../../src/server/sessions/document.js";
import { page } from "../page-data.js";
import { eventData } from "./event-stream.js";
import { ServerError, sendJson } from "./http.js";

/** The likeliest tokens that are asked for beside each chosen one. */
const ALTERNATIVES = 5;

export interface ChatMessage {
  readonly role: string;
  readonly content: string;
}

export interface Piece {
  readonly text: string;
  readonly probabilities: readonly TokenProbability[];
}

export interface AnswerEnd {
  readonly finish: "stop" | "length";
  readonly tokens: number;
  readonly promptTokens: number;
  readonly tokensPerSecond: number;
  readonly firstTokenMs: number;
}

export interface AnswerRequest {
  readonly model: string;
  readonly settings: SessionSettings;
  /** Beside those of the settings. */
  readonly stop: readonly string[];
  readonly signal: AbortSignal;
  readonly onPiece: (piece: Piece) => void;
}

/** The fields of the API for what a person has set; what is not set is the model's own. */
const FIELD: Readonly<Record<keyof SessionSampling, string>> = {
  temperature: "temperature",
  topK: "top_k",
  topP: "top_p",
  minP: "min_p",
  typical: "typical_p",
  repetitionPenalty: "repetition_penalty",
  penaltySustain: "penalty_sustain",
  penaltyDecay: "penalty_decay",
  frequencyPenalty: "frequency_penalty",
  presencePenalty: "presence_penalty",
};

/** @throws {ServerError} also for an error in the middle of the stream */
export function streamChat(messages: readonly ChatMessage[], request: AnswerRequest): Promise<AnswerEnd> {
  const probabilities = request.settings.probabilities ? { logprobs: true, top_logprobs: ALTERNATIVES } : {};
  return stream("/v1/chat/completions", { messages, ...probabilities }, request);
}

/** @throws {ServerError} also for an error in the middle of the stream */
export function streamText(prompt: string, request: AnswerRequest): Promise<AnswerEnd> {
  const probabilities = request.settings.probabilities ? { logprobs: ALTERNATIVES } : {};
  return stream("/v1/completions", { prompt, ...probabilities }, request);
}

/** Lets the model go on from a prompt with one of the choices, and nothing else. */
export async function choose(
  prompt: string,
  choices: readonly string[],
  request: Pick<AnswerRequest, "model" | "settings" | "signal">,
): Promise<string> {
  const { model, settings, signal } = request;
  const body = {
    model,
    prompt,
    max_tokens: 64,
    ...adapterFields(settings),
    ...samplingFields(settings.sampling),
    repetition_penalty: 1, // a name that was just said is as good as any other
    structured_outputs: { choice: choices },
  };
  const response = await sendJson("POST", "/v1/completions", body, { signal });
  const { choices: answers } = (await response.json()) as { choices: { text: string }[] };
  const text = answers[0]?.text.trim() ?? "";
  const found = choices.find((choice) => choice.trim() === text);
  if (found === undefined) throw new Error(`the model answered ${JSON.stringify(text)}, which is none of the choices`);
  return found;
}

/** @returns tokens of a text by the model's tokenizer */
export async function countTokens(text: string, signal?: AbortSignal): Promise<number> {
  const response = await sendJson("POST", "/tokenize", { prompt: text }, signal ? { signal } : {});
  const { count, tokens } = (await response.json()) as { count?: number; tokens?: unknown[] };
  return count ?? tokens?.length ?? 0;
}

async function stream(path: string, fields: object, request: AnswerRequest): Promise<AnswerEnd> {
  const { model, settings, signal, onPiece } = request;
  const stop = [...new Set([...request.stop, ...settings.stop, ...(settings.stopOnNewline ? ["\n"] : [])])];
  const body = {
    model,
    ...fields,
    stream: true,
    stream_options: { include_usage: true },
    max_tokens: settings.maxTokens,
    ...(settings.seed === null ? {} : { seed: settings.seed }),
    ...(stop.length > 0 ? { stop } : {}),
    ...adapterFields(settings),
    ...samplingFields(settings.sampling),
  };
  const response = await sendJson("POST", path, body, { signal });
  const clock = new Clock();
  let finish: AnswerEnd["finish"] | null = null;
  for await (const data of eventData(response.body!)) {
    if (data === "[DONE]") continue; // read to the end, so that the connection can be used again
    const chunk = JSON.parse(data) as Chunk;
    if (chunk.error) throw new ServerError(500, chunk);
    const choice = chunk.choices?.[0];
    if (choice?.finish_reason) finish = choice.finish_reason === "length" ? "length" : "stop";
    const text = choice?.text ?? choice?.delta?.content ?? "";
    const probabilities = probabilitiesOf(choice);
    if (text !== "" || probabilities.length > 0) {
      clock.piece();
      onPiece({ text, probabilities });
    }
    if (chunk.usage) clock.usage(chunk.usage, chunk.timings);
  }
  if (finish === null) throw new Error("the connection ended before the answer did");
  return { finish, ...clock.figures };
}

/** Those that the model has and that weigh something. */
function adapterFields({ adapters = [] }: SessionSettings): { adapters?: { name: string; weight: number }[] } {
  const loaded = new Set(page.peek()?.info.adapters.map(({ name }) => name));
  const used = adapters.filter(({ name, weight }) => weight !== 0 && loaded.has(name));
  return used.length === 0 ? {} : { adapters: used };
}

function samplingFields(sampling: SessionSampling): Record<string, number> {
  const given = Object.entries(sampling).filter((entry): entry is [keyof SessionSampling, number] => entry[1] !== undefined);
  return Object.fromEntries(given.map(([name, value]) => [FIELD[name], value]));
}

/** What is read of a streamed chunk, of either route. */
interface Chunk {
  readonly choices?: readonly Choice[];
  readonly usage?: { readonly prompt_tokens: number; readonly completion_tokens: number } | null;
  readonly timings?: { readonly first_token_ms: number; readonly tokens_per_second: number };
  readonly error?: unknown;
}

interface Choice {
  readonly text?: string;
  readonly delta?: { readonly content?: string | null };
  readonly finish_reason?: string | null;
  readonly logprobs?: ChatLogprobs | TextLogprobs | null;
}

interface ChatLogprobs {
  readonly content?:
    | readonly { token: string; logprob: number; top_logprobs: readonly { token: string; logprob: number }[] }[]
    | null;
}

interface TextLogprobs {
  readonly tokens?: readonly string[];
  readonly token_logprobs?: readonly (number | null)[];
  readonly top_logprobs?: readonly (Readonly<Record<string, number>> | null)[] | null;
}

function probabilitiesOf(choice: Choice | undefined): TokenProbability[] {
  const logprobs = choice?.logprobs;
  if (!logprobs) return [];
  if ("content" in logprobs)
    return (logprobs.content ?? []).map(({ token, logprob, top_logprobs }) => [
      token,
      rounded(logprob),
      top_logprobs.map((other) => [other.token, rounded(other.logprob)]),
    ]);
  const { tokens = [], token_logprobs = [], top_logprobs } = logprobs as TextLogprobs;
  return tokens.map((token, index) => [
    token,
    rounded(token_logprobs[index] ?? 0),
    Object.entries(top_logprobs?.[index] ?? {})
      .sort(([, a], [, b]) => b - a)
      .map(([text, logprob]) => [text, rounded(logprob)]),
  ]);
}

/** Three digits are enough to show, and keep session files small. */
function rounded(logprob: number): number {
  return Math.max(-999, Math.round(logprob * 1000) / 1000);
}

/** Times as they are seen here, until the server says its own. */
class Clock {
  readonly #begun = performance.now();
  #first: number | null = null;
  #last = 0;
  figures = { tokens: 0, promptTokens: 0, tokensPerSecond: 0, firstTokenMs: 0 };

  piece(): void {
    this.#last = performance.now();
    this.#first ??= this.#last;
  }

  usage({ prompt_tokens, completion_tokens }: NonNullable<Chunk["usage"]>, timings: Chunk["timings"]): void {
    const first = this.#first ?? this.#begun;
    const seconds = (this.#last - first) / 1000;
    this.figures = {
      tokens: completion_tokens,
      promptTokens: prompt_tokens,
      tokensPerSecond: timings?.tokens_per_second ?? (seconds > 0 ? (completion_tokens - 1) / seconds : 0),
      firstTokenMs: timings?.first_token_ms ?? first - this.#begun,
    };
  }
}
