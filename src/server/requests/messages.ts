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

/** @see messagesOf */
export const messagesSchema = z
  .array(
    z.discriminatedUnion("role", [
      z.strictObject({ role: z.enum(["system", "developer", "user"]), content: text, name: noName }),
      z.strictObject({ role: z.literal("assistant"), content: text, refusal: z.null().optional(), name: noName }),
    ]),
  )
  .min(1, { error: "there must be at least one message" });

/** As chat templates take them: one text each; `developer` is the newer name of `system`. */
export function messagesOf(messages: z.output<typeof messagesSchema>): ChatMessage[] {
  return messages.map(({ role, content }) => ({ role: role === "developer" ? "system" : role, content: wholeText(content) }));
}

function wholeText(content: z.output<typeof text>): string {
  return typeof content === "string" ? content : content.map((part) => part.text).join("");
}
