// Messages of a conversation as clients send them. Contents are text, alone or in parts; what this
// program cannot read (images, sound, files) is refused by its name rather than left out.

import { z } from "zod";
import type { ChatMessage } from "../../engine/model.js";

const textPart = z.strictObject({
  type: z.literal("text", { error: "only parts of type text: this model reads nothing else" }),
  text: z.string(),
});
const text = z.union([z.string(), z.array(textPart)]);
const noName = z.undefined({ error: "chat templates have no place for names; write it into the content" }).optional();

const toolCall = z.strictObject({
  id: z.string(),
  type: z.literal("function", { error: "only functions can be called" }).default("function"),
  function: z.strictObject({ name: z.string(), arguments: z.string() }),
});

/** @see messagesOf */
export const messagesSchema = z
  .array(
    z.discriminatedUnion("role", [
      z.strictObject({ role: z.enum(["system", "developer", "user"]), content: text, name: noName }),
      z.strictObject({
        role: z.literal("assistant"),
        content: text.nullish(),
        tool_calls: z.array(toolCall).nullish(),
        refusal: z.null().optional(),
        audio: z.null().optional(),
        function_call: z.null().optional(),
        name: noName,
      }),
      z.strictObject({ role: z.literal("tool"), content: text, tool_call_id: z.string() }),
      z.strictObject({ role: z.literal("function"), content: text, name: z.string() }),
    ]),
  )
  .min(1, { error: "there must be at least one message" });

/** As chat templates take them: one text each, and what an assistant called. */
export function messagesOf(messages: z.output<typeof messagesSchema>): ChatMessage[] {
  return messages.map((message) => {
    const content = wholeText(message.content);
    switch (message.role) {
      case "assistant":
        return { role: "assistant", content, ...(message.tool_calls?.length ? { tool_calls: message.tool_calls } : {}) };
      case "tool":
        return { role: "tool", content, tool_call_id: message.tool_call_id };
      case "function":
        return { role: "function", content, name: message.name };
      default:
        return { role: message.role, content };
    }
  });
}

function wholeText(content: z.output<typeof text> | null | undefined): string {
  if (content === null || content === undefined) return "";
  return typeof content === "string" ? content : content.map((part) => part.text).join("");
}

/** What of them becomes tokens, but for what the template writes itself. */
export function textsOf(messages: readonly ChatMessage[]): string[] {
  return messages.flatMap(({ content, tool_calls: calls = [] }) => [
    ...(typeof content === "string" ? [content] : []),
    ...calls.map((call) => call.function.arguments),
  ]);
}
