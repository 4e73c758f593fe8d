// Conversations with tools in them as templates read them: natively where the template knows
// tools, else as plain text in the turns that it has.

import type { TemplateMessage } from "../chat-template.js";
import type { ChatMessage, Tool, ToolCall } from "../messages.js";
import type { ToolFormat } from "./tool-format.js";

/** What a template gets. */
export interface ToolPrompt {
  readonly messages: readonly TemplateMessage[];
  /** Absent: the template finds no tools. */
  readonly tools?: readonly Tool[];
}

/**
 * @param messages checked
 * @param template source of the chat template: which roles it knows
 * @param tools what the model may call now
 */
export function toolPrompt(
  messages: readonly ChatMessage[],
  template: string,
  format: ToolFormat,
  tools: readonly Tool[],
): ToolPrompt {
  const known = messages.map((message) => ({ ...message, role: knownRole(message.role, template) }));
  if (!format.native) return { messages: describe(known, format, tools) };
  const native = known.map((message) => nativeMessage(message, format));
  return tools.length > 0 ? { messages: native, tools } : { messages: native };
}

function knownRole(role: string, template: string): string {
  if (role === "function") return "tool";
  return role === "developer" && !template.includes("developer") ? "system" : role;
}

type KnownMessage = Omit<ChatMessage, "role"> & { readonly role: string };

function nativeMessage({ role, content, name, tool_calls, tool_call_id }: KnownMessage, format: ToolFormat): TemplateMessage {
  const mistral = format.begin === "[TOOL_CALLS]";
  const idOf = (id: string): string => (mistral ? shortId(id) : id);
  return {
    role,
    content: content as string,
    ...(name === undefined ? {} : { name }),
    ...(tool_call_id === undefined ? {} : { tool_call_id: idOf(tool_call_id) }),
    ...(tool_calls === undefined ? {} : { tool_calls: tool_calls.map((call) => ({ ...nativeCall(call), id: idOf(call.id) })) }),
  };
}

/** Templates write arguments as JSON themselves, so they want the value; what is no JSON stays as it is. */
function nativeCall(call: ToolCall): Record<string, unknown> {
  return { ...call, function: { name: call.function.name, arguments: argumentsOf(call) } };
}

function argumentsOf({ function: called }: ToolCall): unknown {
  try {
    return JSON.parse(called.arguments);
  } catch {
    return called.arguments;
  }
}

/** Mistral's templates refuse ids that are not 9 letters or digits. Equal ids stay equal. */
function shortId(id: string): string {
  if (/^[A-Za-z0-9]{9}$/.test(id)) return id;
  let hash = 0n;
  for (const character of id) hash = (hash * 1_000_003n + BigInt(character.codePointAt(0)!)) % 101_559_956_668_416n; // 36^9
  return hash.toString(36).padStart(9, "0");
}

function describe(messages: readonly KnownMessage[], format: ToolFormat, tools: readonly Tool[]): TemplateMessage[] {
  const plain: { role: string; content: string }[] = [];
  for (const message of messages) {
    const content = message.content as string;
    const last = plain.at(-1);
    const result = `<tool_response>\n${content}\n</tool_response>`;
    if (message.role !== "tool")
      plain.push({ role: message.role, content: withCalls(content, message.tool_calls ?? [], format) });
    else if (last?.role === "user" && last.content.startsWith("<tool_response>")) last.content += `\n${result}`;
    else plain.push({ role: "user", content: result });
  }
  if (tools.length === 0) return plain;
  const [first] = plain;
  const text = descriptionOf(tools, format);
  if (first?.role === "system") return [{ role: "system", content: `${first.content}\n\n${text}` }, ...plain.slice(1)];
  return [{ role: "system", content: text }, ...plain];
}

/** The same with a system text at the beginning of the first turn, for templates that have none. */
export function withoutSystem(messages: readonly TemplateMessage[]): TemplateMessage[] {
  const [first, second, ...rest] = messages;
  if (first?.role !== "system" || !second) return [...messages];
  return [{ ...second, content: `${first.content}\n\n${second.content}` }, ...rest];
}

function withCalls(content: string, calls: readonly ToolCall[], format: ToolFormat): string {
  const written = calls.map((call) => {
    const { name, arguments: given } = call.function;
    return `${format.begin}${format.open}${format.before(name)}${given}${format.after}${format.close}${format.end}`;
  });
  return [...(content === "" ? [] : [content]), ...written].join("\n");
}

function descriptionOf(tools: readonly Tool[], format: ToolFormat): string {
  return [
    "You can call these functions:",
    ...tools.map((tool) => JSON.stringify(tool.function)),
    "To call one, answer with its name and arguments in this form, and nothing else:",
    `${format.begin}${format.open}${format.before("NAME")}{"ARGUMENT": "VALUE"}${format.after}${format.close}${format.end}`,
    "The results come between <tool_response> and </tool_response>.",
  ].join("\n");
}
