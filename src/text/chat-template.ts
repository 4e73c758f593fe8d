// Chat templates: small Jinja programs that come with a model, so they are as foreign as its
// weights. They run in @huggingface/jinja's interpreter, which can reach nothing but the
// messages; here it gets bounds on steps, on the size of what it makes, and on time.

import { Environment, Interpreter, parse, tokenize } from "@huggingface/jinja";
import { ChatTemplateError } from "./errors.js";
import { withTimeLimit } from "./time-limit.js";
import { expectObject } from "./tokenizer-config.js";

/** A message as templates read it; an assistant's may hold the calls that it made, their arguments as values. */
export interface TemplateMessage {
  readonly role: string;
  readonly content: string;
  readonly name?: string;
  readonly tool_call_id?: string;
  readonly tool_calls?: readonly unknown[];
}

export interface RenderOptions {
  /** End where the assistant's answer begins; default true. */
  readonly addGenerationPrompt?: boolean;
  /** What the model may call, in OpenAI's form; default: the template finds `tools` undefined. */
  readonly tools?: readonly unknown[];
}

/** A template may take this many evaluation steps, and so many more for each message. */
const STEPS = 1_000_000;
const STEPS_PER_MESSAGE = 20_000;
/** A turn of a loop costs the interpreter about as much as this many other steps. */
const STEPS_PER_TURN = 8;
/** Characters of a text, items of a list that a template may make, beside what the messages bring. */
const LARGEST_TEXT = 4 * 2 ** 20;
const LARGEST_LIST = 2 ** 18;
const LONGEST_MS = 5_000;

export class ChatTemplate {
  readonly source: string;
  readonly bosToken: string | null;
  readonly eosToken: string | null;
  readonly #program: unknown;

  /** @throws {ChatTemplateError} when the template is not Jinja */
  constructor(source: string, tokens: { bosToken: string | null; eosToken: string | null }) {
    this.source = source;
    this.bosToken = tokens.bosToken;
    this.eosToken = tokens.eosToken;
    if (source.length > LARGEST_TEXT)
      throw new ChatTemplateError(`the chat template has ${source.length} characters; at most ${LARGEST_TEXT} are read`);
    try {
      this.#program = withTimeLimit(
        LONGEST_MS,
        () => parse(tokenize(source, { lstrip_blocks: true, trim_blocks: true })),
        tooLong,
      );
    } catch (error) {
      throw new ChatTemplateError(`the chat template cannot be read: ${messageOf(error)}`, { hint: HINT, cause: error });
    }
  }

  /**
   * The prompt as text, special tokens spelled out.
   *
   * @throws {ChatTemplateError} when the template refuses the messages, fails, or does not come to an end
   */
  render(messages: readonly TemplateMessage[], options: RenderOptions = {}): string {
    const environment = new JinjaEnvironment();
    for (const [name, value] of Object.entries(globals())) environment.set(name, value);
    environment.set("messages", messages);
    if (options.tools !== undefined) environment.set("tools", options.tools);
    environment.set("add_generation_prompt", options.addGenerationPrompt ?? true);
    environment.set("bos_token", this.bosToken ?? "");
    environment.set("eos_token", this.eosToken ?? "");
    const size = JSON.stringify([messages, options.tools]).length;
    const interpreter = new BoundedInterpreter(environment, {
      steps: STEPS + messages.length * STEPS_PER_MESSAGE,
      text: LARGEST_TEXT + size * 4,
      list: LARGEST_LIST + messages.length * 4,
    });
    try {
      const rendered: unknown = withTimeLimit(LONGEST_MS + size / 100, () => interpreter.run(this.#program).value, tooLong);
      if (typeof rendered !== "string") throw new Error("it made no text");
      return rendered;
    } catch (error) {
      if (error instanceof ChatTemplateError) throw error;
      if (error instanceof TemplateRefusal)
        throw new ChatTemplateError(`the chat template refuses these messages: ${error.message}`, { cause: error });
      throw new ChatTemplateError(`the chat template failed: ${messageOf(error)}`, { hint: HINT, cause: error });
    }
  }
}

const HINT =
  "The template comes with the model (tokenizer_config.json or chat_template.jinja). Without one, plain completion still works.";

class TemplateRefusal extends Error {}

function globals(): Record<string, unknown> {
  return {
    true: true,
    True: true,
    false: false,
    False: false,
    none: null,
    None: null,
    raise_exception: (message: unknown) => {
      throw new TemplateRefusal(String(message));
    },
    range: boundedRange,
    strftime_now: (format: unknown) => strftime(new Date(), String(format)),
  };
}

interface Bounds {
  readonly steps: number;
  readonly text: number;
  readonly list: number;
}

// The library's type declarations do not resolve under NodeNext; this is what is used of them.
interface JinjaValue {
  readonly value: unknown;
}
interface JinjaScope {
  set(name: string, value: unknown): unknown;
}
/** Any node of the syntax tree; `for` has an `iterable`, which has an `lhs` where the loop has a condition. */
interface JinjaStatement {
  readonly iterable?: JinjaStatement & { readonly lhs?: JinjaStatement };
}
interface JinjaRunner {
  run(program: unknown): JinjaValue;
  evaluate(statement: JinjaStatement | undefined, scope: JinjaScope): JinjaValue;
}
const JinjaEnvironment = Environment as unknown as new () => JinjaScope;
const JinjaInterpreter = Interpreter as unknown as new (scope: JinjaScope) => JinjaRunner;

/** Every expression and statement passes through `evaluate`, so this is where a template can be stopped. */
class BoundedInterpreter extends JinjaInterpreter {
  readonly #bounds: Bounds;
  /** Expressions that loops run over: a turn of a loop counts even when its body is empty. */
  readonly #loopedOver = new WeakSet<object>();
  #steps = 0;

  constructor(environment: JinjaScope, bounds: Bounds) {
    super(environment);
    this.#bounds = bounds;
  }

  override evaluate(statement: JinjaStatement | undefined, scope: JinjaScope): JinjaValue {
    const iterable = statement?.iterable;
    if (iterable) this.#loopedOver.add(iterable.lhs ?? iterable);
    this.#spend(1);
    const result = super.evaluate(statement, scope);
    const { value } = result;
    if (typeof value === "string" && value.length > this.#bounds.text)
      throw new ChatTemplateError(`the chat template makes a text of more than ${this.#bounds.text} characters`, { hint: HINT });
    if (Array.isArray(value) && value.length > this.#bounds.list)
      throw new ChatTemplateError(`the chat template makes a list of more than ${this.#bounds.list} items`, { hint: HINT });
    if (statement && this.#loopedOver.has(statement))
      this.#spend(STEPS_PER_TURN * (Array.isArray(value) ? value.length : value instanceof Map ? value.size : 0));
    return result;
  }

  #spend(steps: number): void {
    this.#steps += steps;
    if (this.#steps > this.#bounds.steps)
      throw new ChatTemplateError(`the chat template takes more than ${this.#bounds.steps} steps`, { hint: HINT });
  }
}

function boundedRange(start: number, stop?: number, step = 1): number[] {
  const [from, to] = stop === undefined ? [0, start] : [start, stop];
  if (step === 0) throw new Error("range() with a step of zero");
  if ((to - from) / step > LARGEST_LIST)
    throw new ChatTemplateError(`the chat template makes a list of more than ${LARGEST_LIST} items`, { hint: HINT });
  const list: number[] = [];
  for (let i = from; step > 0 ? i < to : i > to; i += step) list.push(i);
  return list;
}

const MONTHS = "January February March April May June July August September October November December".split(" ");
const DAYS = "Sunday Monday Tuesday Wednesday Thursday Friday Saturday".split(" ");

/** Python's strftime, for the codes that templates use; in English whatever the machine's language, as models were trained. */
function strftime(date: Date, format: string): string {
  const two = (value: number): string => String(value).padStart(2, "0");
  const codes: Record<string, string> = {
    Y: String(date.getFullYear()),
    y: two(date.getFullYear() % 100),
    m: two(date.getMonth() + 1),
    d: two(date.getDate()),
    B: MONTHS[date.getMonth()]!,
    b: MONTHS[date.getMonth()]!.slice(0, 3),
    A: DAYS[date.getDay()]!,
    a: DAYS[date.getDay()]!.slice(0, 3),
    H: two(date.getHours()),
    I: two(date.getHours() % 12 || 12),
    M: two(date.getMinutes()),
    S: two(date.getSeconds()),
    p: date.getHours() < 12 ? "AM" : "PM",
    "%": "%",
  };
  return format.replace(/%(.)/g, (all, code: string) => codes[code] ?? all);
}

/**
 * Where a folder's files keep the template; of a list of named ones, the one called `default`.
 *
 * @param name another one of the list: `null` then where there is no list, or none of that name
 */
export function chatTemplateSource(
  files: { jinja: string | null; json: unknown; config: unknown },
  name?: string,
): string | null {
  if (files.jinja !== null) return name === undefined ? files.jinja : null;
  for (const file of [files.json, files.config]) {
    if (file === null || file === undefined) continue;
    const template = expectObject(file, "the file with the chat template").chat_template;
    if (template === undefined || template === null) continue;
    if (typeof template === "string") return name === undefined ? template : null;
    return namedTemplate(template, name);
  }
  return null;
}

function namedTemplate(list: unknown, name?: string): string | null {
  const entries = Array.isArray(list)
    ? list
    : Object.entries(expectObject(list, "chat_template")).map(([name, template]) => ({ name, template }));
  const found: unknown =
    entries.find((entry: unknown) => (entry as { name?: unknown } | null)?.name === (name ?? "default")) ??
    (entries.length === 1 && name === undefined ? entries[0] : undefined);
  const template = (found as { template?: unknown } | undefined)?.template;
  if (found === undefined && name !== undefined) return null;
  if (typeof template !== "string") throw new ChatTemplateError('the chat template is a list without one named "default"');
  return template;
}

function tooLong(): ChatTemplateError {
  return new ChatTemplateError(`the chat template does not come to an end within ${LONGEST_MS / 1000} s`, { hint: HINT });
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
