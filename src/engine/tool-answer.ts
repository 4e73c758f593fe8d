// A chat's answer when the model may call tools: the prompt with the tools in it, the
// constraint that keeps calls to their schemas, and the answer's text with the calls taken out.

import { randomBytes } from "node:crypto";
import type { AnswerText } from "../generate/answer-record.js";
import type { GenerationEvent, GenerationResult } from "../generate/request.js";
import type { TokenConstraint } from "../generate/token-constraint.js";
import type { CallPart, CallsSource } from "../structured/messages.js";
import type { StructuredOutput } from "../structured/structured-output.js";
import { ToolConstraint } from "../structured/tool-constraint.js";
import type { Tool, ToolChoice } from "../text/messages.js";
import type { Tokenizer } from "../text/tokenizer.js";
import { type CallTexts, callsBehindMark, wholeCalls } from "../text/tools/call-source.js";
import { CallWatch } from "../text/tools/call-watch.js";
import { ToolCallParser } from "../text/tools/tool-call-parser.js";
import type { ToolFormat } from "../text/tools/tool-format.js";

export interface ToolAnswerOptions {
  readonly tokenizer: Tokenizer;
  readonly structured: StructuredOutput;
  readonly format: ToolFormat;
  /** At least one. */
  readonly tools: readonly Tool[];
  readonly choice: Exclude<ToolChoice, "none">;
  readonly parallel: boolean;
}

/** A constraint that must be closed when the answer is over. */
export type OpenConstraint = TokenConstraint & { close(): void };

export class ToolAnswer {
  readonly #options: ToolAnswerOptions;
  /** Special tokens that calls are made of: the parser must see them. */
  readonly #shown: ReadonlySet<number>;
  readonly #parser: ToolCallParser;
  readonly #pieces: string[] = [];

  constructor(options: ToolAnswerOptions) {
    this.#options = options;
    const { format, tools, tokenizer } = options;
    const marks = [format.begin, ...format.otherBegins, format.end, ...format.inner];
    this.#shown = new Set(marks.flatMap((mark) => tokenizer.specialTokens.get(mark) ?? []));
    const names = new Set(tools.map((tool) => tool.function.name));
    this.#parser = new ToolCallParser({ format, tools: names, newId: () => newCallId(format) });
  }

  /** The answer's ids as text, marks of calls included. */
  text(): AnswerText {
    return this.#options.tokenizer.stream({ shown: this.#shown });
  }

  /** @throws {ConstraintError} when a tool's parameters cannot be constrained */
  async open(): Promise<OpenConstraint> {
    const { structured, choice, tools, format, parallel } = this.#options;
    if (choice === "auto") {
      const source = this.#source(callsBehindMark(format, tools, parallel));
      const open = () => structured.openSource(source);
      return new ToolConstraint(await open(), {
        watch: new CallWatch(format, this.text()),
        open,
        once: !parallel || !format.parallel,
      });
    }
    if (choice === "required") return structured.openSource(this.#source(wholeCalls(format, tools, parallel)));
    const chosen = tools.filter((tool) => tool.function.name === choice.function.name);
    return structured.openSource(this.#source(wholeCalls(format, chosen, false)));
  }

  /** What a reader gets of an event. */
  event(event: GenerationEvent): GenerationEvent {
    const { text, calls } = this.#parser.push(event.text);
    this.#pieces.push(text);
    return calls.length === 0 ? { ...event, text } : { ...event, text, toolCalls: calls };
  }

  /** What is left when the answer is over, and the answer. */
  end(result: GenerationResult): { last: GenerationEvent | null; result: GenerationResult } {
    const { text, calls } = this.#parser.end();
    this.#pieces.push(text);
    const last =
      text === "" && calls.length === 0 ? null : { text, ids: [], ...(calls.length === 0 ? {} : { toolCalls: calls }) };
    const toolCalls = this.#parser.calls;
    return { last, result: { ...result, text: this.#pieces.join(""), ...(toolCalls.length === 0 ? {} : { toolCalls }) } };
  }

  #source({ before, calls, separator, after }: CallTexts): CallsSource {
    return {
      kind: "calls",
      before: this.#parts(before),
      calls: calls.map((call) => call.flatMap((part) => (typeof part === "string" ? this.#parts(part) : [part]))),
      separator: separator === null ? null : this.#parts(separator),
      after: this.#parts(after),
    };
  }

  /** Spellings of special tokens become those tokens. */
  #parts(text: string): CallPart[] {
    const { tokenizer, structured } = this.#options;
    return tokenizer.split(text).map((segment) => {
      if ("text" in segment) return segment.text;
      const marker = structured.markers.get(segment.special);
      return marker === undefined ? tokenizer.spelling(segment.special)! : { marker };
    });
  }
}

/** Mistral's templates take ids of nine letters and digits only. */
function newCallId(format: ToolFormat): string {
  const random = BigInt(`0x${randomBytes(16).toString("hex")}`)
    .toString(36)
    .padStart(24, "0");
  return format.begin === "[TOOL_CALLS]" ? random.slice(-9) : `call_${random.slice(-24)}`;
}
