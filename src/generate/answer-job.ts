// A generation as the scheduler runs it: samples one id after the other until something ends
// the answer, turns ids into text that may be handed out, and keeps what nobody has read yet.

import { performance } from "node:perf_hooks";
import type { Output, OutputRequest } from "../backend/backend.js";
import type { ResolvedOptions } from "./options.js";
import type { FinishReason, GenerationEvent, GenerationResult } from "./request.js";
import type { SequenceJob } from "./sequence.js";
import { StopStrings } from "./stopping.js";

/** Ids to text as they come; `text/` has it. */
export interface AnswerText {
  push(id: number): string;
  end(): string;
}

/** A reader that is so many tokens behind makes its sequence wait. */
const MOST_UNREAD_TOKENS = 64;

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
  readonly #stopStrings: StopStrings;
  readonly #ids: number[] = [];
  readonly #pieces: string[] = [];
  #unreadText = "";
  #unreadIds: number[] = [];
  #finishReason: FinishReason | null = null;

  readonly #requestedAt = performance.now();
  #begunAt = 0;
  #firstTokenAt = 0;
  #endedAt = 0;
  #reused = 0;

  /** @param limit most tokens to generate, at least 1 */
  constructor(prompt: Int32Array, limit: number, options: ResolvedOptions, text: AnswerText) {
    this.prompt = prompt;
    this.positions = prompt.length + limit - 1; // the last token is never fed
    this.reusable = prompt.length - 1; // the last prompt token's logits are wanted
    this.#limit = limit;
    this.#options = options;
    this.#text = text;
    this.#stopStrings = new StopStrings(options.stopStrings);
  }

  get paused(): boolean {
    return this.#unreadIds.length >= MOST_UNREAD_TOKENS;
  }

  begin(reused: number): void {
    this.#begunAt = performance.now();
    this.#reused = reused;
  }

  outputs(start: number, end: number, ids: Int32Array): OutputRequest[] {
    if (end < this.prompt.length) return [];
    const sample = {
      parameters: this.#options.sampling,
      history: ids,
      promptLength: this.prompt.length,
      seed: this.#options.seed,
      position: end,
      mask: null,
    };
    return [{ index: end - 1 - start, sample, target: null, topLogprobs: 0, logits: false, hidden: false }];
  }

  accept(outputs: readonly Output[]): number | null {
    const output = outputs[0];
    if (!output) return null; // a part of the prompt
    if (this.#ids.length === 0) this.#firstTokenAt = performance.now();
    const next = this.#take(output.id!);
    this.onReadable();
    return next;
  }

  /** What has come since the last call, or `null`. */
  read(): GenerationEvent | null {
    if (this.#unreadText === "" && this.#unreadIds.length === 0) return null;
    const event = { text: this.#unreadText, ids: this.#unreadIds };
    this.#unreadText = "";
    this.#unreadIds = [];
    return event;
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
    };
  }

  /** The id to feed next, or `null` when the answer is over. */
  #take(id: number): number | null {
    if (this.#options.stopIds.has(id)) return this.#finish("stop");
    this.#ids.push(id);
    this.#unreadIds.push(id);
    this.#say(this.#stopStrings.push(this.#text.push(id)));
    if (this.#stopStrings.stopped) return this.#finish("stop");
    return this.#ids.length < this.#limit ? id : this.#finish("length");
  }

  #finish(reason: FinishReason): null {
    this.#say(this.#stopStrings.push(this.#text.end()));
    // The end of a half character cannot complete a stop string that was not there, but what it
    // shows (U+FFFD) can: then that is why the answer ends.
    this.#finishReason = this.#stopStrings.stopped ? "stop" : reason;
    this.#say(this.#stopStrings.end());
    this.#endedAt = performance.now();
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
