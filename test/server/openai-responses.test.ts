// The real `openai` client against the server on the demo model: responses.

import OpenAI from "openai";
import type { ResponseStreamEvent } from "openai/resources/responses/responses";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type DemoServer, serveDemo, until } from "./demo-server.js";

let demo: DemoServer;
beforeAll(async () => {
  demo = await serveDemo();
});
afterAll(() => demo.close());

const ask = { model: "demo", input: "Tell me a story about a fox", temperature: 0, max_output_tokens: 12 };
const weather = {
  type: "function" as const,
  name: "get_weather",
  description: "The weather of a city",
  parameters: {
    type: "object",
    properties: { city: { type: "string", maxLength: 16 } },
    required: ["city"],
    additionalProperties: false,
  },
  strict: true,
};

async function events(change: object): Promise<ResponseStreamEvent[]> {
  const all: ResponseStreamEvent[] = [];
  for await (const event of await demo.client.responses.create({ ...ask, ...change, stream: true })) all.push(event);
  return all;
}

describe("responses", () => {
  it("say what chat completions say", async () => {
    const chat = await demo.client.chat.completions.create({
      ...{ model: "demo", temperature: 0, max_tokens: 12 },
      messages: [{ role: "user", content: ask.input }],
    });
    const response = await demo.client.responses.create(ask);
    expect(response.output_text).toBe(chat.choices[0]?.message.content);
    expect(response).toMatchObject({
      object: "response",
      status: "incomplete",
      incomplete_details: { reason: "max_output_tokens" },
      model: "demo",
      error: null,
      output: [{ type: "message", role: "assistant", content: [{ type: "output_text", annotations: [] }] }],
      usage: { input_tokens: chat.usage?.prompt_tokens, output_tokens: 12 },
    });
    const whole = await demo.client.responses.create({
      ...ask,
      max_output_tokens: 20,
      text: { format: { type: "json_object" } },
    });
    expect(whole.output_text).toMatch(/^\s*\{/);
  });

  it("stream the same, every change as a numbered event", async () => {
    const whole = await demo.client.responses.create(ask);
    const all = await events({});
    expect(all.map(({ sequence_number }) => sequence_number)).toEqual(all.map((_, i) => i));
    const kinds = all.map(({ type }) => type).filter((type, i, list) => type !== list[i - 1]);
    expect(kinds).toEqual([
      "response.created",
      "response.in_progress",
      "response.output_item.added",
      "response.content_part.added",
      "response.output_text.delta",
      "response.output_text.done",
      "response.content_part.done",
      "response.output_item.done",
      "response.incomplete",
    ]);
    expect(all.map((event) => (event.type === "response.output_text.delta" ? event.delta : "")).join("")).toBe(whole.output_text);
    const last = all.at(-1);
    expect(last).toMatchObject({
      response: { status: "incomplete", usage: whole.usage === null ? null : { output_tokens: 12 } },
    });
    const helper = demo.client.responses.stream(ask);
    expect((await helper.finalResponse()).output_text).toBe(whole.output_text);
  });

  it("tell log-probabilities, whole and streamed", async () => {
    const asked = { include: ["message.output_text.logprobs" as const], top_logprobs: 2 };
    const whole = await demo.client.responses.create({ ...ask, ...asked });
    const [message] = whole.output;
    const part = message?.type === "message" ? message.content[0] : undefined;
    const logprobs = part?.type === "output_text" ? part.logprobs : undefined;
    expect(logprobs).toHaveLength(12);
    expect(logprobs?.[0]?.top_logprobs).toHaveLength(2);
    const streamed = await events(asked);
    const deltas = streamed.flatMap((event) => (event.type === "response.output_text.delta" ? event.logprobs : []));
    expect(deltas).toEqual(logprobs);
  });

  it("go on from an earlier one, and from messages and instructions", async () => {
    const first = await demo.client.responses.create({ ...ask, instructions: "Be kind." });
    const second = await demo.client.responses.create({ ...ask, input: "And then?", previous_response_id: first.id });
    const spelled = await demo.client.responses.create({
      ...ask,
      input: [
        { role: "user", content: ask.input },
        { role: "assistant", content: [{ type: "output_text", text: first.output_text, annotations: [] }] } as never,
        { role: "user", content: [{ type: "input_text", text: "And then?" }] },
      ],
    });
    expect(second.output_text).toBe(spelled.output_text);
    expect(second.usage).toMatchObject({ input_tokens: spelled.usage?.input_tokens });
    const streamed = await events({ input: "And then?", previous_response_id: first.id });
    expect(streamed.at(-1)).toMatchObject({ response: { previous_response_id: first.id } });
  });

  it("are kept until they are deleted, unless they are not to be", async () => {
    const kept = await demo.client.responses.create(ask);
    expect((await demo.client.responses.retrieve(kept.id)).output).toEqual(kept.output);
    await demo.client.responses.delete(kept.id);
    await expect(demo.client.responses.retrieve(kept.id)).rejects.toMatchObject({ status: 404, code: "response_not_found" });
    const forgotten = await demo.client.responses.create({ ...ask, store: false });
    const next = demo.client.responses.create({ ...ask, previous_response_id: forgotten.id });
    await expect(next).rejects.toMatchObject({ status: 404, param: "previous_response_id" });
  });

  it("are objects of a schema, through the client's helper", async () => {
    const format = {
      type: "json_schema" as const,
      name: "answer",
      strict: true,
      schema: { type: "object", properties: { yes: { type: "boolean" } }, required: ["yes"], additionalProperties: false },
    };
    const response = await demo.client.responses.parse({ ...ask, max_output_tokens: 40, text: { format } });
    expect(response.status).toBe("completed");
    expect(typeof JSON.parse(response.output_text).yes).toBe("boolean");
  });

  it("call functions, whole and streamed, and take their results", async () => {
    const asked = {
      ...ask,
      max_output_tokens: 80,
      tools: [weather],
      tool_choice: { type: "function" as const, name: "get_weather" },
    };
    const whole = await demo.client.responses.create(asked);
    const call = whole.output.find((item) => item.type === "function_call");
    expect(call).toMatchObject({ name: "get_weather", status: "completed" });
    expect(Object.keys(JSON.parse(call?.arguments ?? ""))).toEqual(["city"]);
    const all = await events(asked);
    const pieces = all.map((event) => (event.type === "response.function_call_arguments.delta" ? event.delta : ""));
    expect(pieces.join("")).toBe(call?.arguments);
    expect(all.find((event) => event.type === "response.function_call_arguments.done")).toMatchObject({
      arguments: call?.arguments,
    });
    const output = { type: "function_call_output" as const, call_id: call!.call_id, output: "12 degrees" };
    const next = { ...ask, tools: [weather], previous_response_id: whole.id, input: [output] };
    const answer = await demo.client.responses.create(next);
    expect(answer.usage!.input_tokens).toBeGreaterThan(whole.usage!.input_tokens);
    const spelled = await demo.client.responses.create({
      ...next,
      previous_response_id: null,
      input: [{ role: "user", content: ask.input }, call!, output],
    });
    expect(spelled.usage!.input_tokens).toBe(answer.usage!.input_tokens);
  });

  it("end when their reader leaves", async () => {
    const stream = await demo.client.responses.create({
      ...ask,
      max_output_tokens: 1500,
      ignore_eos: true,
      stream: true,
    } as OpenAI.Responses.ResponseCreateParamsStreaming);
    for await (const event of stream) if (event.type === "response.output_text.delta") break;
    await until(async () => (await demo.model.status()).scheduler.running === 0);
  });

  it.each<[string, object, object]>([
    ["pictures", { input: [{ role: "user", content: [{ type: "input_image", image_url: "x" }] }] }, {}],
    ["others' tools", { tools: [{ type: "web_search" }] }, { param: "tools[0].type" }],
    ["work in the background", { background: true }, { param: "background" }],
    ["thoughts", { reasoning: { effort: "high" } }, { param: "reasoning.effort" }],
    ["prompts that are cut", { truncation: "auto" }, { param: "truncation" }],
    ["conversations", { conversation: "c" }, { param: "conversation", code: "unsupported_parameter" }],
    ["what there is not", { max_tokens: 5 }, { param: "max_tokens", code: "unknown_parameter" }],
    ["no input", { input: [] }, { param: "input" }],
    ["too long a prompt", { input: "word ".repeat(4000) }, { code: "context_length_exceeded" }],
  ])("refuse %s", async (_what, change, expected) => {
    for (const stream of [false, true]) {
      const failure = await demo.client.responses
        .create({ ...ask, ...change, stream } as OpenAI.Responses.ResponseCreateParamsNonStreaming)
        .catch((error: unknown) => error);
      expect(failure).toBeInstanceOf(OpenAI.BadRequestError);
      expect(failure).toMatchObject({ type: "invalid_request_error", ...expected });
    }
  });
});
