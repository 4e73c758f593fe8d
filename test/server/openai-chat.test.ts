// The real `openai` client against the server on the demo model: chat completions.

import OpenAI from "openai";
import type { ChatCompletionCreateParamsNonStreaming } from "openai/resources/chat/completions";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type DemoServer, metric, serveDemo, until } from "./demo-server.js";

let demo: DemoServer;
beforeAll(async () => {
  demo = await serveDemo();
});
afterAll(() => demo.close());

const STORY = { model: "demo", temperature: 0, messages: [{ role: "user" as const, content: "Tell me a story about a fox" }] };
const LONG = { ...STORY, max_tokens: 1500, ignore_eos: true } as const;

async function streamed(request: Parameters<OpenAI["chat"]["completions"]["create"]>[0]) {
  const stream = await demo.client.chat.completions.create({ ...request, stream: true });
  const chunks: OpenAI.ChatCompletionChunk[] = [];
  for await (const chunk of stream) chunks.push(chunk);
  return { chunks, text: chunks.map((chunk) => chunk.choices[0]?.delta.content ?? "").join("") };
}

describe("chat completions", () => {
  it("answers as the model does by itself", async () => {
    const completion = await demo.client.chat.completions.create({ ...STORY, max_completion_tokens: 16 });
    const alone = await demo.model.chat(STORY.messages, { temperature: 0, maxTokens: 16 }).result;
    expect(completion).toMatchObject({
      object: "chat.completion",
      model: "demo",
      choices: [{ index: 0, finish_reason: "length", logprobs: null, message: { role: "assistant", content: alone.text } }],
      usage: { prompt_tokens: alone.promptTokens, completion_tokens: 16, total_tokens: alone.promptTokens + 16 },
    });
    expect(completion.id).toMatch(/^chatcmpl-/);
    expect(Math.abs(completion.created - Date.now() / 1000)).toBeLessThan(60);
  });

  it("streams the same text: the role first, then contents, why it ended, and the usage if asked", async () => {
    const whole = await demo.client.chat.completions.create({ ...STORY, max_tokens: 12 });
    const { chunks, text } = await streamed({ ...STORY, max_tokens: 12, stream_options: { include_usage: true } });
    expect(text).toBe(whole.choices[0]?.message.content);
    expect(chunks[0]?.choices[0]).toMatchObject({ delta: { role: "assistant", content: "" }, finish_reason: null });
    expect(chunks.at(-2)?.choices[0]).toMatchObject({ delta: {}, finish_reason: "length" });
    expect(chunks.at(-1)).toMatchObject({ choices: [], usage: { completion_tokens: 12 } });
    expect(chunks.slice(0, -1).every((chunk) => chunk.usage === null)).toBe(true);
    expect(new Set(chunks.map((chunk) => chunk.id)).size).toBe(1);
  });

  it("says nothing of usage in a stream unless asked", async () => {
    const { chunks } = await streamed({ ...STORY, max_tokens: 3 });
    expect(chunks.some((chunk) => "usage" in chunk)).toBe(false);
    expect(chunks.every((chunk) => chunk.choices.length === 1)).toBe(true);
  });

  it("gives the tokens' log-probabilities, whole and streamed", async () => {
    const asked = { ...STORY, max_tokens: 6, logprobs: true, top_logprobs: 3 };
    const completion = await demo.client.chat.completions.create(asked);
    const content = completion.choices[0]?.logprobs?.content ?? [];
    expect(content.map((token) => token.token).join("")).toContain(completion.choices[0]?.message.content?.trim());
    expect(content).toHaveLength(6);
    for (const token of content) {
      expect(token.top_logprobs).toHaveLength(3);
      expect(token.logprob).toBeCloseTo(token.top_logprobs[0]?.logprob ?? 1, 6); // greedy: the likeliest was taken
      expect(token.bytes).toEqual([...Buffer.from(token.token)]);
      expect(token.logprob).toBeLessThanOrEqual(0);
    }
    const { chunks } = await streamed(asked);
    expect(chunks.flatMap((chunk) => chunk.choices[0]?.logprobs?.content ?? [])).toEqual(content);
  });

  it("gives n answers, that a seed repeats", async () => {
    const asked = { ...STORY, temperature: 1, seed: 7, n: 3, max_tokens: 8 };
    const { choices } = await demo.client.chat.completions.create(asked);
    expect(new Set(choices.map(({ message }) => message.content)).size).toBe(3);
    expect((await demo.client.chat.completions.create(asked)).choices).toEqual(choices);
    const { chunks } = await streamed(asked);
    for (const index of [0, 1, 2]) {
      const own = chunks.flatMap((chunk) => chunk.choices).filter((choice) => choice.index === index);
      expect(own.map((choice) => choice.delta.content ?? "").join("")).toBe(choices[index]?.message.content);
      expect(own.at(-1)?.finish_reason).toBe(choices[index]?.finish_reason);
    }
  });

  it("ends before a stop string", async () => {
    const plain = await demo.client.chat.completions.create({ ...STORY, max_tokens: 20 });
    const words = plain.choices[0]!.message.content!.split(" ");
    const stopped = await demo.client.chat.completions.create({ ...STORY, max_tokens: 20, stop: [` ${words[4]}`] });
    expect(stopped.choices[0]).toMatchObject({ finish_reason: "stop", message: { content: words.slice(0, 4).join(" ") } });
  });

  it("takes contents in parts, and developer messages as system messages", async () => {
    const parts = await demo.client.chat.completions.create({
      ...STORY,
      max_tokens: 8,
      messages: [
        { role: "developer", content: "Be kind." },
        {
          role: "user",
          content: [
            { type: "text", text: "Tell me a story " },
            { type: "text", text: "about a fox" },
          ],
        },
      ],
    });
    const plain = await demo.client.chat.completions.create({
      ...STORY,
      max_tokens: 8,
      messages: [{ role: "system", content: "Be kind." }, ...STORY.messages],
    });
    expect(parts.choices).toEqual(plain.choices);
  });

  it("keeps away from a negative prompt, and searches with beams, as the library does", async () => {
    const text = async (change: object) =>
      (await demo.client.chat.completions.create({ ...STORY, max_tokens: 10, ...change, stream: false })).choices[0]?.message
        .content;
    const alone = async (change: object) =>
      (await demo.model.chat(STORY.messages, { temperature: 0, maxTokens: 10, ...change }).result).text;
    const guided = await text({ guidance: { scale: 2, negative_prompt: "You tell of dogs." } });
    expect(guided).toBe(await alone({ guidance: { scale: 2, negative: "You tell of dogs." } }));
    expect(guided).not.toBe(await text({}));
    expect(await text({ beams: { count: 3, length: 4 } })).toBe(await alone({ beams: { count: 3, length: 4 } }));
    await expect(text({ beams: { count: 40, length: 4 } })).rejects.toMatchObject({ status: 400 });
  });

  it("accepts what changes nothing here", async () => {
    const harmless = { user: "u", metadata: { a: "b" }, store: false, service_tier: "auto" } as const;
    const completion = await demo.client.chat.completions.create({ ...STORY, ...harmless, max_tokens: 1, prediction: null });
    expect(completion.choices).toHaveLength(1);
  });
});

describe("what cannot be done", () => {
  it.each<[string, Record<string, unknown>, object]>([
    ["a parameter that there is not", { temprature: 1 }, { status: 400, code: "unknown_parameter", param: "temprature" }],
    [
      "OpenAI's that mean nothing here",
      { audio: { voice: "x" } },
      { status: 400, code: "unsupported_parameter", param: "audio" },
    ],
    ["a kind of value", { temperature: "hot" }, { status: 400, code: "invalid_type", param: "temperature" }],
    ["a value out of range", { top_p: 3 }, { status: 400, param: "top_p" }],
    ["no messages", { messages: [] }, { status: 400, param: "messages" }],
    ["messages left out", { messages: undefined }, { status: 400, param: "messages", code: "missing_required_parameter" }],
    ["a role", { messages: [{ role: "wizard", content: "x" }] }, { status: 400, param: "messages[0].role" }],
    [
      "pictures",
      { messages: [{ role: "user", content: [{ type: "image_url", image_url: { url: "x" } }] }] },
      { status: 400, param: "messages[0].content[0].type" },
    ],
    ["answers that are kept", { store: true }, { status: 400, param: "store" }],
    ["alternatives without log-probabilities", { top_logprobs: 3 }, { status: 400, param: "top_logprobs" }],
    ["calls in parallel of no tools", { parallel_tool_calls: true }, { status: 400, param: "parallel_tool_calls" }],
    ["a model that is not served", { model: "gpt-4" }, { status: 404, code: "model_not_found", param: "model" }],
    [
      "a prompt longer than the context",
      { messages: [{ role: "user", content: "word ".repeat(4000) }] },
      { status: 400, code: "context_length_exceeded" },
    ],
    ["more answers than ever", { n: 1000 }, { status: 400, param: "n" }],
  ])("refuses %s", async (_what, change, expected) => {
    for (const stream of [false, true]) {
      const request = { ...STORY, max_tokens: 2, ...change, stream } as unknown as ChatCompletionCreateParamsNonStreaming;
      const failure = await demo.client.chat.completions.create(request).then(
        () => null,
        (error: unknown) => error,
      );
      expect(failure).toBeInstanceOf(OpenAI.APIError);
      expect(failure).toMatchObject({ type: "invalid_request_error", ...expected });
      expect((failure as InstanceType<typeof OpenAI.APIError>).requestID).toMatch(/^req_/);
    }
  });

  it("refuses options of a stream for what is none", async () => {
    const asked = { ...STORY, stream_options: { include_usage: true } } as ChatCompletionCreateParamsNonStreaming;
    await expect(demo.client.chat.completions.create(asked)).rejects.toMatchObject({ status: 400, param: "stream_options" });
  });

  it("says which parameter was meant", async () => {
    const asked = demo.client.chat.completions.create({ ...STORY, temprature: 1 } as typeof STORY);
    await expect(asked).rejects.toThrow(/no parameter 'temprature'.*Did you mean 'temperature'/);
  });
});

describe("leaving", () => {
  it("ends the answer of a client that aborts a stream", async () => {
    const stream = await demo.client.chat.completions.create({ ...LONG, stream: true });
    for await (const chunk of stream) if (chunk.choices[0]?.delta.content) break;
    await until(async () => (await demo.model.status()).scheduler.running === 0);
    expect((await demo.model.status()).scheduler.reservedPages).toEqual([0]);
  });

  it("ends the answer of a client that gives up waiting", async () => {
    const controller = new AbortController();
    const asked = demo.client.chat.completions.create(LONG, { signal: controller.signal });
    await until(async () => (await demo.model.status()).scheduler.running === 1);
    controller.abort();
    await expect(asked).rejects.toBeInstanceOf(OpenAI.APIUserAbortError);
    await until(async () => (await demo.model.status()).scheduler.running === 0);
  });

  it("counts those as cancelled", async () => {
    await until(
      async () => (await metric(demo.url, 'exllama_requests_total{route="/v1/chat/completions",outcome="cancelled"}')) === 2,
    );
  });
});
