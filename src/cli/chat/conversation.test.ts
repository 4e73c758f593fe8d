import { describe, expect, it } from "vitest";
import type { ChatMessage, Model } from "../../index.js";
import { Conversation } from "./conversation.js";

/** A model for which every character is a token. */
function modelOf(context: number): Pick<Model, "tokenizeChat" | "plan"> {
  return {
    plan: { context } as Model["plan"],
    tokenizeChat: async (messages: readonly ChatMessage[]) =>
      messages.flatMap(({ content }) => Array.from(String(content), () => 0)),
  };
}

const contents = async (conversation: Conversation, context: number): Promise<string[]> =>
  (await conversation.messages(modelOf(context))).messages.map(({ content }) => String(content));

describe("Conversation", () => {
  it("is the system message, then questions and answers in turn", async () => {
    const conversation = new Conversation("be brief");
    conversation.ask("a");
    conversation.answer("b");
    conversation.ask("c");
    const { messages, leftOut } = await conversation.messages(modelOf(1000));
    expect(messages.map(({ role }) => role)).toEqual(["system", "user", "assistant", "user"]);
    expect(leftOut).toBe(0);
  });

  it("leaves the oldest turns out, never the system message or the newest question", async () => {
    const conversation = new Conversation("sys");
    for (const word of ["one", "two", "three"]) {
      conversation.ask(word);
      conversation.answer(word.toUpperCase());
    }
    conversation.ask("four");
    expect(await contents(conversation, 30)).toEqual(["sys", "two", "TWO", "three", "THREE", "four"]);
    expect(await contents(conversation, 10)).toEqual(["sys", "four"]);
    expect(await contents(conversation, 1)).toEqual(["sys", "four"]);
  });

  it("takes turns back and begins anew", async () => {
    const conversation = new Conversation(null);
    expect(conversation.undo()).toBeNull();
    conversation.ask("a");
    conversation.answer("b");
    conversation.ask("c");
    expect(conversation.undo()).toBe("c");
    expect(await contents(conversation, 100)).toEqual(["a", "b"]);
    conversation.reset();
    expect(conversation.undo()).toBeNull();
  });
});
