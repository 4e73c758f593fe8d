// The body of POST /v1/responses.

import { z } from "zod";
import type { ChatMessage, ChatOptions, Tool, ToolCall } from "../../engine/model.js";
import { InvalidRequestError } from "../errors.js";
import { streamOptions } from "../requests/chat.js";
import { formatConstraint } from "../requests/constraints.js";
import { checkGoesWith, harmlessShape, said, samplingOptions, samplingShape } from "../requests/sampling.js";
import { modelShape, type ServedModel } from "../served-model.js";

const onlyText = { error: "only text: this model reads nothing else" };
const parts = z.array(
  z.strictObject({
    type: z.enum(["input_text", "output_text"], onlyText),
    text: z.string(),
    annotations: z.array(z.unknown()).nullish(),
    logprobs: z.array(z.unknown()).nullish(),
  }),
);
const text = z.union([z.string(), parts]);
/** What answers carry and questions may bring back. */
const fromAnswers = { id: z.string().nullish(), status: z.string().nullish() };

const message = z.strictObject({
  type: z.literal("message").optional(),
  role: z.enum(["system", "developer", "user", "assistant"]),
  content: text,
  phase: z.string().nullish(),
  ...fromAnswers,
});
const call = z.strictObject({
  type: z.literal("function_call"),
  call_id: z.string(),
  name: z.string(),
  arguments: z.string(),
  ...fromAnswers,
});
const callOutput = z.strictObject({
  type: z.literal("function_call_output"),
  call_id: z.string(),
  output: text,
  ...fromAnswers,
});
const item = z.union([message, call, callOutput]);

const functionTool = z.strictObject({
  type: z.literal("function", { error: "only functions: this server runs no tools of its own" }),
  name: z.string(),
  description: z.string().nullish(),
  parameters: z.record(z.string(), z.unknown()).nullish(),
  strict: z.boolean().nullish(),
});

const textFormat = z.discriminatedUnion("type", [
  z.strictObject({ type: z.literal("text") }),
  z.strictObject({ type: z.literal("json_object") }),
  z.strictObject({
    type: z.literal("json_schema"),
    name: z.string(),
    description: z.string().nullish(),
    schema: z.record(z.string(), z.unknown()),
    strict: z.boolean().nullish(),
  }),
]);

export const responseRequest = z.strictObject({
  ...modelShape,
  input: z.union([z.string(), z.array(item).min(1)]),
  instructions: z.string().nullish(),
  previous_response_id: z.string().nullish(),
  ...samplingShape,
  ...harmlessShape,
  store: z.boolean().nullish(),
  max_output_tokens: z.int().min(1).nullish(),
  text: z
    .strictObject({
      format: textFormat.nullish(),
      verbosity: z.literal("medium", { error: "only medium: ask for shorter or longer answers in the messages" }).nullish(),
    })
    .nullish(),
  tools: z.array(functionTool).nullish(),
  tool_choice: z
    .union([z.enum(["none", "auto", "required"]), z.strictObject({ type: z.literal("function"), name: z.string() })])
    .nullish(),
  parallel_tool_calls: z.boolean().nullish(),
  stream: z.boolean().nullish(),
  stream_options: streamOptions.pick({ include_obfuscation: true }).nullish(),
  top_logprobs: z.int().min(0).max(20).nullish(),
  include: z.array(z.literal("message.output_text.logprobs", { error: "only message.output_text.logprobs" })).nullish(),
  reasoning: z
    .strictObject({
      effort: z.literal("none", { error: "only none: this model does not reason apart from its answer" }).nullish(),
      summary: z.null().optional(),
    })
    .nullish(),
  truncation: z.literal("disabled", { error: "only disabled: what does not fit the context is refused" }).nullish(),
  background: z.literal(false, { error: "only false: answers are given to who waits for them" }).nullish(),
});

export type ResponseRequest = z.output<typeof responseRequest>;

/** Whether tokens are told with their log-probabilities. */
export function wantsLogprobs({ include, top_logprobs: top }: ResponseRequest): boolean {
  return Boolean(include?.length) || top != null;
}

/** What the engine is asked. */
export function responseOptions(request: ResponseRequest, { adapters }: ServedModel): ChatOptions {
  const { tools, tool_choice: choice, text: shape } = request;
  if (request.stream_options) checkGoesWith(request.stream === true, "stream_options", "'stream': true");
  if (request.parallel_tool_calls != null) checkGoesWith(Boolean(tools?.length), "parallel_tool_calls", "'tools'");
  const chosen =
    typeof choice === "object" && choice !== null ? { type: "function" as const, function: { name: choice.name } } : choice;
  return {
    ...samplingOptions(request),
    ...said<ChatOptions>({
      maxTokens: request.max_output_tokens,
      adapters,
      constraint: shape?.format ? formatConstraint(chatFormat(shape.format)) : undefined,
      logprobs: wantsLogprobs(request) ? (request.top_logprobs ?? 0) : undefined,
      tools: tools?.length
        ? tools.map(({ type, ...described }) => ({ type, function: said<Tool["function"]>(described) }))
        : undefined,
      toolChoice: tools?.length || chosen !== "none" ? chosen : undefined,
      parallelToolCalls: request.parallel_tool_calls,
    }),
  };
}

/** Responses have the fields of `json_schema` beside `type`, chat completions one level down. */
function chatFormat(format: z.output<typeof textFormat>): Parameters<typeof formatConstraint>[0] {
  if (format.type !== "json_schema") return format;
  const { type, ...schema } = format;
  return { type, json_schema: schema };
}

/** The request's own messages, without its instructions. */
export function inputMessages({ input }: ResponseRequest): ChatMessage[] {
  if (typeof input === "string") return [{ role: "user", content: input }];
  const messages: ChatMessage[] = [];
  for (const one of input) {
    if (one.type === "function_call")
      addCall(messages, { id: one.call_id, type: "function", function: { name: one.name, arguments: one.arguments } });
    else if (one.type === "function_call_output")
      messages.push({ role: "tool", tool_call_id: one.call_id, content: wholeText(one.output) });
    else messages.push({ role: one.role, content: wholeText(one.content) });
  }
  return messages;
}

/** Calls made in one turn belong to one message of the assistant. */
export function addCall(messages: ChatMessage[], toolCall: ToolCall): void {
  const last = messages.at(-1);
  const before = last?.role === "assistant" ? messages.pop() : undefined;
  messages.push({ role: "assistant", content: before?.content ?? "", tool_calls: [...(before?.tool_calls ?? []), toolCall] });
}

/** Instructions stand in front, for this answer alone. @throws {InvalidRequestError} */
export function withInstructions(messages: readonly ChatMessage[], instructions: string | null | undefined): ChatMessage[] {
  if (instructions == null) return [...messages];
  if (messages[0]?.role === "system" || messages[0]?.role === "developer")
    throw new InvalidRequestError("'instructions' and a system message in 'input' both come first", {
      param: "instructions",
      hint: "Leave one of them out.",
    });
  return [{ role: "system", content: instructions }, ...messages];
}

function wholeText(content: z.output<typeof text>): string {
  return typeof content === "string" ? content : content.map((part) => part.text).join("");
}
