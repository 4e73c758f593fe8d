// The real AI SDK against the server on the demo model.

import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { APICallError, embed, generateObject, generateText, streamObject, streamText } from "ai";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { z } from "zod";
import { type DemoServer, serveDemo, until } from "./demo-server.js";

let demo: DemoServer;
let provider: ReturnType<typeof createOpenAICompatible>;
beforeAll(async () => {
  demo = await serveDemo();
  provider = createOpenAICompatible({
    name: "exllama",
    baseURL: `${demo.url}/v1`,
    includeUsage: true,
    supportsStructuredOutputs: true,
  });
});
afterAll(() => demo.close());

const base = () => ({
  model: provider("demo"),
  prompt: "Tell me a story about a fox",
  temperature: 0,
  maxRetries: 0,
  maxOutputTokens: 12,
});
const fox = z.object({ name: z.string().max(12), age: z.int().min(0).max(20), kind: z.enum(["red", "grey"]) });

describe("the AI SDK", () => {
  it("generates and streams the same text, and knows its usage", async () => {
    const whole = await generateText(base());
    expect(whole).toMatchObject({ finishReason: "length", usage: { outputTokens: 12 } });
    const stream = streamText(base());
    let text = "";
    for await (const piece of stream.textStream) text += piece;
    expect(text).toBe(whole.text);
    expect(await stream.usage).toMatchObject({ outputTokens: 12, inputTokens: whole.usage.inputTokens });
    expect(await stream.finishReason).toBe("length");
  });

  it("generates and streams objects of a schema", async () => {
    const { object } = await generateObject({ ...base(), schema: fox, maxOutputTokens: 120 });
    expect(fox.parse(object)).toEqual(object);
    const stream = streamObject({ ...base(), schema: fox, maxOutputTokens: 120 });
    const seen: unknown[] = [];
    for await (const partial of stream.partialObjectStream) seen.push(partial);
    expect(await stream.object).toEqual(object);
    expect(seen.length).toBeGreaterThan(2);
  });

  it("ends the answer when it is aborted", async () => {
    const controller = new AbortController();
    const stream = streamText({ ...base(), maxOutputTokens: 1500, abortSignal: controller.signal });
    for await (const _ of stream.textStream) break;
    controller.abort();
    await until(async () => (await demo.model.status()).scheduler.running === 0);
  });

  it("is told what is wrong", async () => {
    const failure = await generateText({ ...base(), prompt: "word ".repeat(4000) }).catch((error: unknown) => error);
    expect(APICallError.isInstance(failure)).toBe(true);
    expect(failure).toMatchObject({ statusCode: 400, isRetryable: false, message: expect.stringContaining("context") });
  });

  it("embeds", async () => {
    const { embedding, usage } = await embed({ model: provider.embeddingModel("demo"), value: "The fox" });
    expect(Math.hypot(...embedding)).toBeCloseTo(1, 5);
    expect(usage.tokens).toBeGreaterThan(0);
  });
});
