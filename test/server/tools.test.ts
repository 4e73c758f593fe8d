// Functions that the model may call, through the real clients: chat completions, responses, the AI SDK.

import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateText, stepCountIs, streamText, tool } from "ai";
import type OpenAI from "openai";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { z } from "zod";
import { type DemoServer, postJson, serveDemo } from "./demo-server.js";

let demo: DemoServer;
beforeAll(async () => {
  demo = await serveDemo();
});
afterAll(() => demo.close());

const messages = [{ role: "user" as const, content: "What is the weather in Paris?" }];
const parameters = {
  type: "object",
  properties: { city: { type: "string", maxLength: 16 }, unit: { enum: ["celsius", "fahrenheit"] } },
  required: ["city", "unit"],
  additionalProperties: false,
};
const weather = {
  type: "function" as const,
  function: { name: "get_weather", description: "The weather of a city", parameters },
};
const time = { type: "function" as const, function: { name: "get_time", parameters: { type: "object", properties: {} } } };
const ask = { model: "demo", temperature: 0, max_tokens: 100, messages, tools: [weather, time] };
const forced = { type: "function" as const, function: { name: "get_weather" } };

function expectWeather(call: OpenAI.ChatCompletionMessageToolCall | undefined): void {
  if (call?.type !== "function") throw new Error("no call of a function");
  expect(call.function.name).toBe("get_weather");
  const { city, unit, ...rest } = JSON.parse(call.function.arguments);
  expect(typeof city).toBe("string");
  expect(["celsius", "fahrenheit"]).toContain(unit);
  expect(rest).toEqual({});
}

describe("tools of chat completions", () => {
  it("are called when they must be, with arguments of their schema", async () => {
    const { choices } = await demo.client.chat.completions.create({ ...ask, tool_choice: forced });
    expect(choices[0]).toMatchObject({ finish_reason: "tool_calls", message: { role: "assistant", content: null } });
    expect(choices[0]?.message.tool_calls).toHaveLength(1);
    expect(choices[0]?.message.tool_calls?.[0]?.id).toMatch(/./);
    expectWeather(choices[0]?.message.tool_calls?.[0]);
  });

  it("are called in pieces that the client puts together to the same", async () => {
    const whole = await demo.client.chat.completions.create({ ...ask, tool_choice: forced });
    const stream = demo.client.chat.completions.stream({ ...ask, tool_choice: forced });
    let pieces = 0;
    stream.on("tool_calls.function.arguments.delta", () => pieces++);
    const streamed = await stream.finalChatCompletion();
    expect(pieces).toBeGreaterThan(3);
    const named = ({ choices }: OpenAI.ChatCompletion) =>
      choices.map(({ message, finish_reason }) => [
        finish_reason,
        message.content,
        message.tool_calls?.map((call) => call.type === "function" && [call.function.name, call.function.arguments]),
      ]);
    expect(named(streamed)).toEqual(named(whole));
  });

  it("are called at least once when some must be, and not at all when none may be", async () => {
    const required = await demo.client.chat.completions.create({ ...ask, tool_choice: "required", parallel_tool_calls: false });
    expect(required.choices[0]?.message.tool_calls).toHaveLength(1);
    const none = await demo.client.chat.completions.create({ ...ask, max_tokens: 12, tool_choice: "none" });
    expect(none.choices[0]?.message.tool_calls).toBeUndefined();
    expect(none.choices[0]?.message.content).not.toBe("");
  });

  it("take part in the conversation: calls and their results go back to the model", async () => {
    const called = await demo.client.chat.completions.create({ ...ask, tool_choice: forced });
    const message = called.choices[0]!.message;
    const results = message.tool_calls!.map(({ id }) => ({ role: "tool" as const, tool_call_id: id, content: "12 degrees" }));
    const longer = [...messages, message, ...results];
    const answer = await demo.client.chat.completions.create({ ...ask, max_tokens: 8, tool_choice: "auto", messages: longer });
    expect(answer.usage!.prompt_tokens).toBeGreaterThan(called.usage!.prompt_tokens);
    expect(answer.usage!.completion_tokens).toBeGreaterThan(0);
    const counted = async (change: object) =>
      (await postJson<{ count: number }>(`${demo.url}/tokenize`, { messages, ...change })).count;
    expect(await counted({ tools: [weather] })).toBeGreaterThan(await counted({}));
  });

  it("are run by the client's own loop", async () => {
    const asked: unknown[] = [];
    const runner = demo.client.chat.completions.runTools(
      {
        ...{ model: "demo", temperature: 0, max_tokens: 100, messages, tool_choice: forced },
        tools: [
          {
            type: "function",
            function: { ...weather.function, parse: JSON.parse, function: (given: object) => void asked.push(given) },
          },
        ],
      },
      { maxChatCompletions: 1 },
    );
    await runner.done();
    expect(asked).toHaveLength(1);
    expect(asked[0]).toMatchObject({ city: expect.any(String) });
  });

  it.each<[string, object, object]>([
    ["one that is not described", { tool_choice: { type: "function", function: { name: "fly" } } }, { param: "tool_choice" }],
    ["some where there are none", { tools: [], tool_choice: "required" }, { param: "tool_choice" }],
    ["two of one name", { tools: [weather, weather] }, {}],
    [
      "a name that is none",
      { tools: [{ type: "function", function: { name: "no spaces" } }] },
      { param: "tools[0].function.name" },
    ],
    ["others' tools", { tools: [{ type: "web_search" }] }, { param: "tools[0].type" }],
    [
      "arguments that cannot be constrained",
      {
        tools: [{ type: "function", function: { name: "f", parameters: { type: "object", not: {} } } }],
        tool_choice: "required",
      },
      {},
    ],
  ])("cannot be asked for: %s", async (_what, change, expected) => {
    const asked = demo.client.chat.completions.create({ ...ask, ...change } as OpenAI.ChatCompletionCreateParamsNonStreaming);
    await expect(asked).rejects.toMatchObject({ status: 400, type: "invalid_request_error", ...expected });
  });
});

describe("the AI SDK's tools", () => {
  it("are called, run, and their results answered", async () => {
    const model = createOpenAICompatible({ name: "exllama", baseURL: `${demo.url}/v1` })("demo");
    const mustCall = { type: "tool" as const, toolName: "get_weather" as const };
    const asked: string[] = [];
    const tools = {
      get_weather: tool({
        description: "The weather of a city",
        inputSchema: z.object({ city: z.string().max(16) }),
        execute: async ({ city }) => {
          asked.push(city);
          return { degrees: 12 };
        },
      }),
    };
    const prompt = "What is the weather in Paris?";
    const { steps } = await generateText({
      ...{ model, tools, prompt, temperature: 0, maxOutputTokens: 150, maxRetries: 0, stopWhen: stepCountIs(2) },
      prepareStep: ({ stepNumber }) => ({ toolChoice: stepNumber === 0 ? mustCall : "none" }),
    });
    expect(steps.map((step) => step.finishReason)[0]).toBe("tool-calls");
    expect(asked).toHaveLength(steps[0]!.toolCalls.length);
    expect(steps).toHaveLength(2);

    const stream = streamText({
      model,
      tools,
      prompt,
      temperature: 0,
      maxOutputTokens: 150,
      maxRetries: 0,
      toolChoice: mustCall,
    });
    const parts = [];
    for await (const part of stream.fullStream) parts.push(part.type);
    expect(parts).toContain("tool-call");
    expect(await stream.finishReason).toBe("tool-calls");
  });
});
