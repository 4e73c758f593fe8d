// A generation as the scheduler runs it: samples one id after the other until something ends
// the answer, turns ids into text that may be handed out, and keeps what nobody has read yet.

import { performance } from "node:perf_hooks";
import type { Output, OutputRequest } from "../backend/backend.js";
import type { ResolvedOptions } from "./options.js";
import type { FinishReason, GenerationEvent, GenerationResult, PromptTokenInfo, TokenInfo } from "./request.js";
import type { SequenceJob } from "./sequence.js";
import { StopStrings } from "./stopping.js";
import type { TokenConstraint } from "./token-constraint.js";
import { type BytesOf, showLikely, showToken } from "./token-info.js";

/** Ids to text as they come; `text/` has it. */
export interface AnswerText {
  push(id: number): string;
  end(): string;
}

/** A reader that is so many tokens behind makes its sequence wait. */
const MOST_UNREAD_TOKENS = 64;

const NOTHING = { sample: null, target: null, topLogprobs: 0, logits: false, hidden: false } as const;

export class AnswerJob implements SequenceJob {
  readonly prompt: Int32Array;
  readonly positions: number;
  readonly reusable: number;
  readonly keep = true;
  /** Called when there is something to read. */
  onReadable: () => void = () => {};

  readonly #options: ResolvedOptions;
  readonly #limit: number;
  readonly #text: AnswerText;
  readonly #bytesOf: BytesOf;
  readonly #constraint: TokenConstraint | null;
  readonly #stopStrings: StopStrings;
  readonly #ids: number[] = [];
  readonly #tokens: TokenInfo[] = [];
  readonly #promptTokens: PromptTokenInfo[] = [];
  readonly #pieces: string[] = [];
  #unreadText = "";
  #unreadIds: number[] = [];
  #finishReason: FinishReason | null = null;

  readonly #requestedAt = performance.now();
  #begunAt = 0;
  #firstTokenAt = 0;
  #endedAt = 0;
  #reused = 0;

  /** @param limit most tokens to generate; 0 only where log-probabilities of the prompt are wanted */
  constructor(
    prompt: Int32Array,
    limit: number,
    options: ResolvedOptions,
    text: AnswerText,
    bytesOf: BytesOf,
    constraint: TokenConstraint | null = null,
  ) {
    this.prompt = prompt;
    this.positions = Math.max(prompt.length, prompt.length + limit - 1); // the last token is never fed
    // The last prompt token's logits are wanted, or those of all of them.
    this.reusable = options.promptLogprobs === null ? prompt.length - 1 : 0;
    this.#limit = limit;
    this.#options = options;
    this.#text = text;
    this.#bytesOf = bytesOf;
    this.#constraint = constraint;
    this.#stopStrings = new StopStrings(options.stopStrings);
  }

  get paused(): boolean {
    return this.#unreadIds.length >= MOST_UNREAD_TOKENS || this.#constraint?.ready === false;
  }

  begin(reused: number): void {
    this.#begunAt = performance.now();
    this.#reused = reused;
    if (this.#options.promptLogprobs !== null)
      this.#promptTokens.push({ ...showToken(this.prompt[0]!, this.#bytesOf), logprob: null, top: [] });
  }

  outputs(start: number, end: number, ids: Int32Array): OutputRequest[] {
    const requests = this.#promptOutputs(start, end);
    if (end < this.prompt.length || this.#limit === 0) return requests;
    const sample = {
      parameters: this.#options.sampling,
      history: ids,
      promptLength: this.prompt.length,
      seed: this.#options.seed,
      position: end,
      mask: this.#constraint?.mask() ?? null,
    };
    requests.push({ ...NOTHING, index: end - 1 - start, sample, topLogprobs: this.#options.logprobs ?? 0 });
    return requests;
  }

  accept(outputs: readonly Output[]): number | null {
    let next: number | null = null;
    for (const output of outputs) {
      if (output.targetLogprob !== null) this.#takePromptToken(output, output.targetLogprob);
      if (output.id !== null) next = this.#takeSample(output, output.id);
    }
    if (this.#limit === 0 && this.#promptTokens.length === this.prompt.length) this.#finish("length");
    return next;
  }

  /** What has come since the last call, or `null`. */
  read(): GenerationEvent | null {
    if (this.#unreadText === "" && this.#unreadIds.length === 0) return null;
    const event = { text: this.#unreadText, ids: this.#unreadIds };
    this.#unreadText = "";
    this.#unreadIds = [];
    if (this.#options.logprobs === null) return event;
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
        promptTokensPerSecond: perSecond(this.prompt.length - this.#reused, promptMs),
        tokensPerSecond: perSecond(this.#ids.length - 1, generationMs),
        reusedTokens: this.#reused,
      },
      ...(this.#options.logprobs === null ? {} : { tokens: this.#tokens }),
      ...(this.#options.promptLogprobs === null ? {} : { promptLogprobs: this.#promptTokens }),
    };
  }

  /** Each prompt token after the first, as what follows the one before it. */
  #promptOutputs(start: number, end: number): OutputRequest[] {
    const { promptLogprobs } = this.#options;
    const requests: OutputRequest[] = [];
    if (promptLogprobs === null) return requests;
    for (let at = start; at < Math.min(end, this.prompt.length - 1); at++)
      requests.push({ ...NOTHING, index: at - start, target: this.prompt[at + 1]!, topLogprobs: promptLogprobs });
    return requests;
  }

  #takePromptToken({ top }: Output, logprob: number): void {
    const token = showToken(this.prompt[this.#promptTokens.length]!, this.#bytesOf);
    this.#promptTokens.push({ ...token, logprob, top: showLikely(top, this.#bytesOf) });
  }

  /** The id to feed next, or `null` when the answer is over. */
  #takeSample({ logprob, top }: Output, id: number): number | null {
    if (this.#ids.length === 0) this.#firstTokenAt = performance.now();
    const next = this.#take(id);
    if (this.#options.logprobs !== null && this.#tokens.length < this.#ids.length)
      this.#tokens.push({ ...showToken(id, this.#bytesOf), logprob: logprob!, top: showLikely(top, this.#bytesOf) });
    this.onReadable();
    return next;
  }

  #take(id: number): number | null {
    if (this.#options.stopIds.has(id) || this.#constraint?.complete) return this.#finish("stop");
    this.#constraint?.accept(id);
    this.#ids.push(id);
    this.#unreadIds.push(id);
    this.#say(this.#stopStrings.push(this.#text.push(id)));
    if (this.#stopStrings.stopped || this.#constraint?.complete) return this.#finish("stop");
    return this.#ids.length < this.#limit ? id : this.#finish("length");
  }

  #finish(reason: FinishReason): null {
    this.#say(this.#stopStrings.push(this.#text.end()));
    // The end of a half character cannot complete a stop string that was not there, but what it
    // shows (U+FFFD) can: then that is why the answer ends.
    this.#finishReason = this.#stopStrings.stopped ? "stop" : reason;
    this.#say(this.#stopStrings.end());
    this.#endedAt = performance.now();
    if (this.#firstTokenAt === 0) this.#firstTokenAt = this.#endedAt;
    return null;
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
