// What a response consists of: one message and the calls of functions, each an item, built up as
// tokens come. Every change is also an event of the stream, so that the streamed and the whole
// response cannot differ.

import { randomUUID } from "node:crypto";
import type { GenerationEvent, ToolCall, ToolCallDelta } from "../../engine/model.js";
import { chatLogprobs } from "../logprobs.js";

type Logprobs = ReturnType<typeof chatLogprobs>["content"];

interface TextPart {
  readonly type: "output_text";
  text: string;
  readonly annotations: readonly [];
  readonly logprobs: Logprobs;
}

interface MessageItem {
  readonly type: "message";
  readonly id: string;
  readonly role: "assistant";
  status: "in_progress" | "completed" | "incomplete";
  content: TextPart[];
}

interface CallItem {
  readonly type: "function_call";
  readonly id: string;
  readonly call_id: string;
  readonly name: string;
  arguments: string;
  status: "in_progress" | "completed" | "incomplete";
}

export type OutputItem = MessageItem | CallItem;

/** An event without its number; `type` names it. */
export interface OutputEvent {
  readonly type: string;
  readonly [field: string]: unknown;
}

export class ResponseOutput {
  readonly items: OutputItem[] = [];
  /** Where the message stands among the items. */
  #message: number | null = null;
  /** Where each call does, by the engine's index. */
  readonly #calls = new Map<number, number>();
  readonly #withLogprobs: boolean;

  /** @param withLogprobs tokens are told beside the text */
  constructor(withLogprobs: boolean) {
    this.#withLogprobs = withLogprobs;
  }

  /** What came, as events. */
  *add({ text, tokens, toolCalls = [] }: GenerationEvent): Generator<OutputEvent> {
    const logprobs = this.#withLogprobs ? chatLogprobs(tokens).content : [];
    if (text !== "" || logprobs.length > 0) yield* this.#addText(text, logprobs);
    for (const delta of toolCalls) yield* this.#addCall(delta);
  }

  /** The end. @param complete whether the model said all it wanted to */
  *end(complete: boolean): Generator<OutputEvent> {
    // An answer of nothing is still an answer.
    if (this.items.length === 0) yield* this.#open();
    const status = complete ? "completed" : "incomplete";
    for (const [output_index, item] of this.items.entries()) {
      item.status = status;
      const at = { item_id: item.id, output_index };
      if (item.type === "message") {
        const part = item.content[0]!;
        yield { type: "response.output_text.done", ...at, content_index: 0, text: part.text, logprobs: part.logprobs };
        yield { type: "response.content_part.done", ...at, content_index: 0, part };
      } else {
        yield { type: "response.function_call_arguments.done", ...at, name: item.name, arguments: item.arguments };
      }
      yield { type: "response.output_item.done", output_index, item };
    }
  }

  /** The text of the message. */
  get text(): string {
    return this.items.flatMap((item) => (item.type === "message" ? item.content.map((part) => part.text) : [])).join("");
  }

  /** The calls, as a conversation keeps them. */
  get toolCalls(): ToolCall[] {
    return this.items.flatMap((item): ToolCall[] =>
      item.type === "function_call"
        ? [{ id: item.call_id, type: "function", function: { name: item.name, arguments: item.arguments } }]
        : [],
    );
  }

  *#addText(delta: string, logprobs: Logprobs): Generator<OutputEvent> {
    if (this.#message === null) yield* this.#open();
    const output_index = this.#message!;
    const item = this.items[output_index] as MessageItem;
    const part = item.content[0]!;
    part.text += delta;
    part.logprobs.push(...logprobs);
    yield { type: "response.output_text.delta", item_id: item.id, output_index, content_index: 0, delta, logprobs };
  }

  *#open(): Generator<OutputEvent> {
    const item: MessageItem = { type: "message", id: newId("msg"), role: "assistant", status: "in_progress", content: [] };
    const output_index = this.items.push(item) - 1;
    this.#message = output_index;
    yield { type: "response.output_item.added", output_index, item: structuredClone(item) };
    const part: TextPart = { type: "output_text", text: "", annotations: [], logprobs: [] };
    item.content = [part];
    yield { type: "response.content_part.added", item_id: item.id, output_index, content_index: 0, part: structuredClone(part) };
  }

  *#addCall({ index, id, name, arguments: delta }: ToolCallDelta): Generator<OutputEvent> {
    let output_index = this.#calls.get(index);
    if (output_index === undefined) {
      const item: CallItem = {
        type: "function_call",
        id: newId("fc"),
        call_id: id ?? newId("call"),
        name: name ?? "",
        arguments: "",
        status: "in_progress",
      };
      output_index = this.items.push(item) - 1;
      this.#calls.set(index, output_index);
      yield { type: "response.output_item.added", output_index, item: structuredClone(item) };
    }
    const item = this.items[output_index] as CallItem;
    if (delta === undefined || delta === "") return;
    item.arguments += delta;
    yield { type: "response.function_call_arguments.delta", item_id: item.id, output_index, delta };
  }
}

export function newId(kind: string): string {
  return `${kind}_${randomUUID().replaceAll("-", "")}`;
}
