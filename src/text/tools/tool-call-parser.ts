// The answer of a model that may call tools, as it comes: text is handed on, calls are taken
// out of it in pieces. What may be a mark or a call that is beginning is held back until it is
// one or is none, so that neither half a mark nor a call is ever shown as text.

import type { ToolCall } from "../messages.js";
import { type CallPiece, CallReader } from "./call-reader.js";
import type { ToolFormat } from "./tool-format.js";

/** A piece of a call. `id` and `name` come once, with the first piece of an index. */
export interface ToolCallDelta {
  /** Of the call within the answer. */
  readonly index: number;
  readonly id?: string;
  readonly name?: string;
  /** Next characters of the arguments, which are JSON text. */
  readonly arguments?: string;
}

export interface ParsedPiece {
  readonly text: string;
  readonly calls: readonly ToolCallDelta[];
}

export interface ParserOptions {
  readonly format: ToolFormat;
  /** Names that can be called; what names none of them is text. */
  readonly tools: ReadonlySet<string>;
  /** A fresh id for a call. */
  readonly newId: () => string;
}

/** Between name and arguments in Mistral's newer format, and between name and an id. */
const ARGS = "[ARGS]";
const CALL_ID = "[CALL_ID]";

/** `open`: behind a mark, before a call; `next`: behind a call. */
type State = "text" | "open" | "named" | "call" | "next";

export class ToolCallParser {
  readonly #format: ToolFormat;
  readonly #tools: ReadonlySet<string>;
  readonly #newId: () => string;
  readonly #marks: readonly string[];
  readonly #calls: { id: string; name: string; arguments: string }[] = [];
  #state: State = "text";
  /** What has come and is not understood yet. */
  #buffer = "";
  /** Text since the mark, in case no call follows. */
  #raw = "";
  #reader: CallReader | null = null;
  #atStart = true;
  #text = "";
  #deltas: ToolCallDelta[] = [];

  constructor({ format, tools, newId }: ParserOptions) {
    this.#format = format;
    this.#tools = tools;
    this.#newId = newId;
    this.#marks = [...(format.begin === "" ? [] : [format.begin]), ...format.otherBegins];
  }

  /** All calls so far; the last one may be unfinished. */
  get calls(): ToolCall[] {
    return this.#calls.map(({ id, name, arguments: given }) => ({ id, type: "function", function: { name, arguments: given } }));
  }

  push(text: string): ParsedPiece {
    this.#buffer += text;
    while (this.#advance()) {
      // as far as it can be understood
    }
    return this.#take();
  }

  /** What is left when the answer has ended. */
  end(): ParsedPiece {
    const unnamed = this.#state === "open" || this.#state === "named" || (this.#state === "call" && this.#reader!.name === null);
    if (unnamed) this.#say(this.#raw + this.#buffer);
    else if (this.#state === "text" && !this.#isHalfMark(this.#buffer.trim())) this.#say(this.#buffer);
    this.#buffer = "";
    return this.#take();
  }

  /** Behind a call another one may have been beginning when the answer was cut off. */
  #isHalfMark(text: string): boolean {
    return this.#calls.length > 0 && this.#marks.some((mark) => mark.startsWith(text));
  }

  #take(): ParsedPiece {
    const piece = { text: this.#text, calls: this.#deltas };
    this.#text = "";
    this.#deltas = [];
    return piece;
  }

  /** @returns whether it got anywhere */
  #advance(): boolean {
    if (this.#buffer === "") return false;
    switch (this.#state) {
      case "text":
        return this.#readText();
      case "open":
        return this.#readOpening();
      case "named":
        return this.#readName();
      case "call":
        return this.#readCall();
      case "next":
        return this.#readNext();
    }
  }

  #readText(): boolean {
    if (this.#format.begin === "" && this.#atStart) {
      const start = this.#buffer.trimStart();
      if (start === "") return false;
      this.#atStart = false;
      if (start.startsWith("{")) return this.#open(0);
    }
    const found = this.#marks.map((mark) => ({ mark, at: this.#buffer.indexOf(mark) })).filter(({ at }) => at >= 0);
    const first = found.sort((a, b) => a.at - b.at)[0];
    if (first) {
      this.#say(this.#buffer.slice(0, first.at).trimEnd());
      this.#buffer = this.#buffer.slice(first.at);
      return this.#open(first.mark.length);
    }
    const sure = this.#buffer.length - this.#possibleMark();
    this.#say(this.#buffer.slice(0, sure));
    this.#buffer = this.#buffer.slice(sure);
    return false;
  }

  /** How many of the last characters may be white space before a mark, or a mark's beginning. */
  #possibleMark(): number {
    let length = 0;
    for (const mark of this.#marks)
      for (let size = Math.min(mark.length - 1, this.#buffer.length); size > length; size--)
        if (this.#buffer.endsWith(mark.slice(0, size))) length = size;
    const before = this.#buffer.slice(0, this.#buffer.length - length);
    return this.#buffer.length - before.trimEnd().length;
  }

  /** Behind a mark of so many characters. */
  #open(length: number): true {
    this.#raw = "";
    this.#consume(length);
    this.#state = this.#format.name === "mistral-named" ? "named" : "open";
    return true;
  }

  #readOpening(): boolean {
    const character = this.#buffer[0]!;
    if (character === "{") {
      this.#reader = new CallReader(this.#format.argumentsField);
      this.#state = "call";
      return true;
    }
    if (!/\s/.test(character) && !(character === "[" && this.#format.separator !== null)) return this.#isNone();
    this.#consume(1);
    return true;
  }

  #readName(): boolean {
    const at = this.#buffer.indexOf(ARGS);
    if (at < 0) return this.#buffer.length > 256 ? this.#isNone() : false;
    const name = this.#buffer.slice(0, at).split(CALL_ID)[0]!.trim();
    if (!this.#tools.has(name)) return this.#isNone();
    this.#consume(at + ARGS.length);
    this.#reader = new CallReader(this.#format.argumentsField, name);
    this.#begin(name);
    this.#state = "call";
    return true;
  }

  #readCall(): boolean {
    const reader = this.#reader!;
    const begun = reader.name !== null;
    const { taken, piece } = reader.push(this.#buffer);
    const unknown = reader.name !== null && !this.#tools.has(reader.name);
    if (!begun && (unknown || reader.wrong || (reader.done && reader.name === null))) return this.#isNone();
    this.#consume(taken);
    this.#tell(piece);
    if (reader.done && this.#calls.at(-1)!.arguments === "") this.#tell({ arguments: "{}" });
    if (!reader.done && !reader.wrong) return false;
    this.#state = "next";
    return true;
  }

  #readNext(): boolean {
    const { end, separator } = this.#format;
    const character = this.#buffer[0]!;
    if (separator !== null || end !== "") {
      if (/\s/.test(character)) {
        this.#consume(1);
        return true;
      }
      if (separator !== null) {
        this.#state = character === "," ? "open" : "text";
        if (character === "," || character === "]") this.#consume(1);
        if (character === ",") this.#raw = "";
        return true;
      }
      if (end.startsWith(this.#buffer) && this.#buffer.length < end.length) return false;
      if (this.#buffer.startsWith(end)) this.#consume(end.length);
    }
    this.#state = "text";
    return true;
  }

  /** What came behind the mark is no call: all of it is text. */
  #isNone(): boolean {
    this.#say(this.#raw);
    this.#raw = "";
    this.#atStart = false;
    // One character at least, or a mark that stands at its beginning would be found again.
    this.#say(this.#buffer.slice(0, 1));
    this.#buffer = this.#buffer.slice(1);
    this.#state = "text";
    return true;
  }

  #consume(count: number): void {
    this.#raw += this.#buffer.slice(0, count);
    this.#buffer = this.#buffer.slice(count);
  }

  #tell({ name, arguments: given }: CallPiece): void {
    if (name !== undefined) this.#begin(name);
    if (given === undefined) return;
    this.#calls.at(-1)!.arguments += given;
    this.#deltas.push({ index: this.#calls.length - 1, arguments: given });
  }

  #begin(name: string): void {
    const id = this.#newId();
    this.#calls.push({ id, name, arguments: "" });
    this.#deltas.push({ index: this.#calls.length - 1, id, name });
  }

  #say(text: string): void {
    this.#text += text;
  }
}
