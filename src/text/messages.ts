// A conversation as programs write it: OpenAI's chat messages, with the tools that the model
// may call and the calls that it made. It comes from outside, so everything is checked here: a
// role or a tool's name stands in the prompt beside the template's own marks.

import { ChatMessageError } from "./errors.js";

const ROLES = ["system", "developer", "user", "assistant", "tool", "function"] as const;
export type Role = (typeof ROLES)[number];

export interface TextPart {
  readonly type: "text";
  readonly text: string;
}

/** A call that the model made; `arguments` is JSON text. */
export interface ToolCall {
  readonly id: string;
  readonly type: "function";
  readonly function: { readonly name: string; readonly arguments: string };
}

export interface ChatMessage {
  /** `developer` is `system` to models that do not know it; `function` is an older name of `tool`. */
  readonly role: Role | (string & {});
  /** May be missing or `null` where an assistant only calls tools. */
  readonly content?: string | null | readonly TextPart[];
  /** Tool, function: which function this is the result of. */
  readonly name?: string;
  /** Assistant: the calls that it made. */
  readonly tool_calls?: readonly ToolCall[];
  /** Tool: which call this is the result of. */
  readonly tool_call_id?: string;
}

/** What the model may call. */
export interface Tool {
  readonly type: "function";
  readonly function: {
    /** Letters, digits, `_` and `-`, at most 64. */
    readonly name: string;
    readonly description?: string;
    /** JSON schema of its arguments, an object; default: no arguments. */
    readonly parameters?: unknown;
    /** Default true: arguments have no properties that the schema does not list, unless it says otherwise. */
    readonly strict?: boolean;
  };
}

/** `auto`: as the model likes; `required`: at least one call; a function: one call of that one. */
export type ToolChoice =
  | "none"
  | "auto"
  | "required"
  | { readonly type: "function"; readonly function: { readonly name: string } };

const MOST_TOOLS = 128;
const TOOL_NAME = /^[A-Za-z0-9_-]{1,64}$/;

type Fields = Readonly<Record<string, unknown>>;

/**
 * Checked messages, with nothing in them but what is named above.
 *
 * @throws {ChatMessageError} saying which message is wrong
 */
export function checkMessages(messages: unknown): ChatMessage[] {
  if (!Array.isArray(messages) || messages.length === 0)
    throw new ChatMessageError("there are no messages", { hint: 'Give an array such as [{ role: "user", content: "…" }].' });
  return messages.map((message: unknown, index) => checkMessage(message, `messages[${index}]`));
}

function checkMessage(value: unknown, where: string): ChatMessage {
  const message = objectOf(value, where, ["role", "content", "name", "tool_calls", "tool_call_id"]);
  const { role, name, tool_calls, tool_call_id } = message;
  if (!(ROLES as readonly unknown[]).includes(role))
    throw new ChatMessageError(`${where} has the role ${shown(role)}`, { hint: `The roles are ${ROLES.join(", ")}.` });
  if (tool_calls !== undefined && role !== "assistant")
    throw new ChatMessageError(`${where} has tool_calls and is not an assistant's`);
  if (tool_call_id !== undefined && role !== "tool")
    throw new ChatMessageError(`${where} has a tool_call_id and is not a tool's`);
  if (name !== undefined && role !== "tool" && role !== "function")
    throw new ChatMessageError(`${where} has a name`, {
      hint: "Chat templates have no place for names of people: write them into the content.",
    });
  const calls = tool_calls === undefined || tool_calls === null ? [] : checkCalls(tool_calls, `${where}.tool_calls`);
  const content = checkContent(message.content, `${where}.content`, calls.length > 0);
  return {
    role: role as Role,
    content,
    ...(name === undefined ? {} : { name: textOf(name, `${where}.name`) }),
    ...(calls.length === 0 ? {} : { tool_calls: calls }),
    ...(tool_call_id === undefined ? {} : { tool_call_id: textOf(tool_call_id, `${where}.tool_call_id`) }),
  };
}

/** Parts of text are one text. */
function checkContent(content: unknown, where: string, mayBeMissing: boolean): string {
  if (typeof content === "string") return content;
  if (content === undefined || content === null) {
    if (mayBeMissing) return "";
    throw new ChatMessageError(`${where} is missing`, { hint: 'Messages have the form { role: "user", content: "…" }.' });
  }
  if (!Array.isArray(content)) throw new ChatMessageError(`${where} is ${shown(content)}, neither a text nor a list of texts`);
  return content
    .map((part: unknown, index) => {
      const { type, text } = objectOf(part, `${where}[${index}]`, ["type", "text"]);
      if (type !== "text" || typeof text !== "string")
        throw new ChatMessageError(`${where}[${index}] is of type ${shown(type)}`, {
          hint: 'Only parts such as { type: "text", text: "…" } can be read.',
        });
      return text;
    })
    .join("");
}

function checkCalls(value: unknown, where: string): ToolCall[] {
  if (!Array.isArray(value)) throw new ChatMessageError(`${where} is not a list`);
  return value.map((call: unknown, index) => {
    const at = `${where}[${index}]`;
    const { id, type = "function", function: called } = objectOf(call, at, ["id", "type", "function", "index"]);
    if (type !== "function")
      throw new ChatMessageError(`${at} is of type ${shown(type)}`, { hint: "Only functions can be called." });
    const { name, arguments: given } = objectOf(called, `${at}.function`, ["name", "arguments"]);
    return {
      id: textOf(id, `${at}.id`),
      type,
      function: { name: toolName(name, `${at}.function.name`), arguments: textOf(given, `${at}.function.arguments`) },
    };
  });
}

/** @throws {ChatMessageError} */
export function checkTools(value: unknown): Tool[] {
  if (!Array.isArray(value)) throw new ChatMessageError("tools is not a list");
  if (value.length > MOST_TOOLS) throw new ChatMessageError(`there are ${value.length} tools; at most ${MOST_TOOLS} are taken`);
  const tools = value.map((tool: unknown, index) => checkTool(tool, `tools[${index}]`));
  const names = tools.map((tool) => tool.function.name);
  const twice = names.find((name, index) => names.indexOf(name) !== index);
  if (twice !== undefined) throw new ChatMessageError(`two tools are called ${twice}`);
  return tools;
}

function checkTool(value: unknown, where: string): Tool {
  const { type, function: described } = objectOf(value, where, ["type", "function"]);
  if (type !== "function")
    throw new ChatMessageError(`${where} is of type ${shown(type)}`, { hint: 'Only tools of type "function" are known.' });
  const { name, description, parameters, strict } = objectOf(described, `${where}.function`, [
    "name",
    "description",
    "parameters",
    "strict",
  ]);
  if (parameters !== undefined && parameters !== null) objectOf(parameters, `${where}.function.parameters`, null);
  if (strict !== undefined && strict !== null && typeof strict !== "boolean")
    throw new ChatMessageError(`${where}.function.strict is ${shown(strict)}, neither true nor false`);
  return {
    type,
    function: {
      name: toolName(name, `${where}.function.name`),
      ...(description === undefined || description === null
        ? {}
        : { description: textOf(description, `${where}.function.description`) }),
      parameters: parameters ?? { type: "object", properties: {} },
      ...(typeof strict === "boolean" ? { strict } : {}),
    },
  };
}

/** @throws {ChatMessageError} also for a choice that the tools do not have */
export function checkToolChoice(value: unknown, tools: readonly Tool[]): ToolChoice {
  if (value === undefined || value === null) return tools.length > 0 ? "auto" : "none";
  if (value === "none" || value === "auto" || value === "required") {
    if (value === "required" && tools.length === 0) throw new ChatMessageError("a call is required, and there are no tools");
    return value;
  }
  const { type, function: wanted } = objectOf(value, "the tool choice", ["type", "function"]);
  const { name } = objectOf(wanted, "the tool choice's function", ["name"]);
  if (type !== "function" || !tools.some((tool) => tool.function.name === name))
    throw new ChatMessageError(`the tool choice is ${shown(value)}, which is none of the tools`, {
      hint: `Choose "none", "auto", "required" or one of the tools: ${tools.map((tool) => tool.function.name).join(", ")}.`,
    });
  return { type: "function", function: { name: name as string } };
}

function objectOf(value: unknown, where: string, fields: readonly string[] | null): Fields {
  if (typeof value !== "object" || value === null || Array.isArray(value))
    throw new ChatMessageError(`${where} is ${shown(value)}, not an object`);
  const unknown = fields && Object.keys(value).find((key) => !fields.includes(key) && (value as Fields)[key] !== undefined);
  if (unknown !== null && unknown !== undefined)
    throw new ChatMessageError(`${where} has a field ${shown(unknown)} that is not known`, {
      hint: `The fields are ${fields!.join(", ")}.`,
    });
  return value as Fields;
}

function toolName(value: unknown, where: string): string {
  if (typeof value === "string" && TOOL_NAME.test(value)) return value;
  throw new ChatMessageError(`${where} is ${shown(value)}`, {
    hint: "A tool's name has letters, digits, _ and -, at most 64 of them.",
  });
}

function textOf(value: unknown, where: string): string {
  if (typeof value === "string") return value;
  throw new ChatMessageError(`${where} is ${shown(value)}, not a text`);
}

function shown(value: unknown): string {
  const text = JSON.stringify(value) ?? String(value);
  return text.length > 60 ? `${text.slice(0, 60)}…` : text;
}
