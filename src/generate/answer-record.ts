// What an answer has come to: the tokens that were chosen, the text that may be handed out, what
// nobody has read yet, what ended it. How the tokens are chosen is the job's.

import { performance } from "node:perf_hooks";
import type { Output, TokenLogprob } from "../backend/backend.js";
import type { ResolvedOptions } from "./options.js";
import type { FinishReason, GenerationEvent, GenerationResult, Guesses, PromptTokenInfo, TokenInfo } from "./request.js";
import { StopStrings } from "./stopping.js";
import type { TokenConstraint } from "./token-constraint.js";
import { type BytesOf, showLikely, showToken } from "./token-info.js";

/** Ids to text as they come; `text/` has it. */
export interface AnswerText {
  push(id: number): string;
  end(): string;
}

/** A token that was chosen, with its log-probability under the plain logits where that is wanted. */
export interface ChosenToken {
  readonly id: number;
  readonly logprob: number | null;
  readonly top: readonly TokenLogprob[];
}

/** A reader that is so many tokens behind makes its sequence wait. */
const MOST_UNREAD_TOKENS = 64;

export class AnswerRecord {
  readonly prompt: Int32Array;
  readonly options: ResolvedOptions;
  /** Most tokens to generate; 0 only where log-probabilities of the prompt are wanted. */
  readonly limit: number;
  /** What the answer must look like, or `null`. */
  readonly constraint: TokenConstraint | null;
  /** Prompt tokens that did not have to be computed. */
  reused = 0;
  /** Called when there is something to read. */
  onReadable: () => void = () => {};

  readonly #text: AnswerText;
  readonly #bytesOf: BytesOf;
  readonly #stopStrings: StopStrings;
  readonly #ids: number[] = [];
  readonly #tokens: TokenInfo[] = [];
  readonly #promptTokens: PromptTokenInfo[] = [];
  readonly #pieces: string[] = [];
  #unreadText = "";
  #unreadIds: number[] = [];
  #finishReason: FinishReason | null = null;
  #guesses: Guesses | null = null;

  readonly #requestedAt = performance.now();
  #begunAt = 0;
  #firstTokenAt = 0;
  #endedAt = 0;

  constructor(
    prompt: Int32Array,
    limit: number,
    options: ResolvedOptions,
    text: AnswerText,
    bytesOf: BytesOf,
    constraint: TokenConstraint | null = null,
  ) {
    this.prompt = prompt;
    this.limit = limit;
    this.options = options;
    this.#text = text;
    this.#bytesOf = bytesOf;
    this.constraint = constraint;
    this.#stopStrings = new StopStrings(options.stopStrings);
  }

  /** Most positions of the prompt and the answer that are fed: the last token never is. */
  get positions(): number {
    return this.prompt.length + Math.max(0, this.limit - 1);
  }

  /** Tokens so far, those that spell a stop string included. */
  get length(): number {
    return this.#ids.length;
  }

  /** Nobody reads it, or it is not known yet what may come next. */
  get paused(): boolean {
    return this.#unreadIds.length >= MOST_UNREAD_TOKENS || this.constraint?.ready === false;
  }

  begin(): void {
    this.#begunAt = performance.now();
    if (this.options.promptLogprobs !== null)
      this.#promptTokens.push({ ...showToken(this.prompt[0]!, this.#bytesOf), logprob: null, top: [] });
  }

  /** The prompt's tokens, one after the other, the first one left out: each is the target of an output. */
  takePromptToken({ targetLogprob, top }: Output): void {
    const token = showToken(this.prompt[this.#promptTokens.length]!, this.#bytesOf);
    this.#promptTokens.push({ ...token, logprob: targetLogprob, top: showLikely(top, this.#bytesOf) });
  }

  /** The next token; says whether the answer goes on after it. */
  take({ id, logprob, top }: ChosenToken): boolean {
    if (this.#ids.length === 0) this.#firstTokenAt = performance.now();
    const goesOn = this.#take(id);
    if (this.options.logprobs !== null && this.#tokens.length < this.#ids.length)
      this.#tokens.push({ ...showToken(id, this.#bytesOf), logprob: logprob!, top: showLikely(top, this.#bytesOf) });
    this.onReadable();
    return goesOn;
  }

  /** `null`: guessing is off. */
  get guesses(): Guesses | null {
    return this.#guesses;
  }

  /** So many ids were guessed, so many of them stood. */
  countGuesses(proposed: number, accepted: number): void {
    const before = this.#guesses ?? { proposed: 0, accepted: 0 };
    this.#guesses = { proposed: before.proposed + proposed, accepted: before.accepted + accepted };
  }

  /** There are no more tokens. */
  finish(reason: FinishReason): false {
    this.#say(this.#stopStrings.push(this.#text.end()));
    // The end of a half character cannot complete a stop string that was not there, but what it
    // shows (U+FFFD) can: then that is why the answer ends.
    this.#finishReason = this.#stopStrings.stopped ? "stop" : reason;
    this.#say(this.#stopStrings.end());
    this.#endedAt = performance.now();
    if (this.#firstTokenAt === 0) this.#firstTokenAt = this.#endedAt;
    return false;
  }

  /** What has come since the last call, or `null`. */
  read(): GenerationEvent | null {
    if (this.#unreadText === "" && this.#unreadIds.length === 0) return null;
    const event = { text: this.#unreadText, ids: this.#unreadIds };
    this.#unreadText = "";
    this.#unreadIds = [];
    if (this.options.logprobs === null) return event;
    return { ...event, tokens: this.#tokens.slice(this.#tokens.length - event.ids.length) };
  }

  /** The whole answer, once it is complete. */
  result(): GenerationResult {
    const promptMs = this.#firstTokenAt - this.#begunAt;
    const generationMs = this.#endedAt - this.#firstTokenAt;
    return {
      text: this.#pieces.join(""),
      ids: this.#ids,
      promptTokens: this.prompt.length,
      finishReason: this.#finishReason!,
      timings: {
        firstTokenMs: this.#firstTokenAt - this.#requestedAt,
        promptMs,
        generationMs,
        promptTokensPerSecond: perSecond(this.prompt.length - this.reused, promptMs),
        tokensPerSecond: perSecond(this.#ids.length - 1, generationMs),
        reusedTokens: this.reused,
      },
      ...(this.options.logprobs === null ? {} : { tokens: this.#tokens }),
      ...(this.options.promptLogprobs === null ? {} : { promptLogprobs: this.#promptTokens }),
      ...(this.#guesses ? { speculation: this.#guesses } : {}),
    };
  }

  #take(id: number): boolean {
    if (this.options.stopIds.has(id) || this.constraint?.complete) return this.finish("stop");
    this.constraint?.accept(id);
    this.#ids.push(id);
    this.#unreadIds.push(id);
    this.#say(this.#stopStrings.push(this.#text.push(id)));
    if (this.#stopStrings.stopped || this.constraint?.complete) return this.finish("stop");
    return this.#ids.length < this.limit || this.finish("length");
  }

  #say(text: string): void {
    if (text === "") return;
    this.#pieces.push(text);
    this.#unreadText += text;
  }
}

function perSecond(count: number, ms: number): number {
  return count > 0 && ms > 0 ? (count * 1000) / ms : 0;
}
