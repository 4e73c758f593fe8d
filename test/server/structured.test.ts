// Answers that must look like something, through the real clients.

import { zodResponseFormat } from "openai/helpers/zod";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { z } from "zod";
import { type DemoServer, serveDemo } from "./demo-server.js";

let demo: DemoServer;
beforeAll(async () => {
  demo = await serveDemo();
});
afterAll(() => demo.close());

const messages = [{ role: "user" as const, content: "Tell me about a fox, as JSON." }];
const chat = (change: object) =>
  demo.client.chat.completions.create({ model: "demo", temperature: 0, max_tokens: 120, messages, ...change, stream: false });
const FOX = {
  type: "object",
  properties: {
    name: { type: "string", maxLength: 12 },
    age: { type: "integer", minimum: 0, maximum: 20 },
    kind: { enum: ["red", "grey"] },
  },
  required: ["name", "age", "kind"],
  additionalProperties: false,
};

function expectFox(text: string | null | undefined): void {
  const fox = JSON.parse(text ?? "");
  expect(Object.keys(fox).sort()).toEqual(["age", "kind", "name"]);
  expect(typeof fox.name).toBe("string");
  expect(Number.isInteger(fox.age)).toBe(true);
  expect(["red", "grey"]).toContain(fox.kind);
}

describe("structured answers", () => {
  const format = { type: "json_schema", json_schema: { name: "fox", strict: true, schema: FOX } };

  it("are what a JSON schema says, whole, streamed, and however they are drawn", async () => {
    const whole = await chat({ response_format: format });
    expectFox(whole.choices[0]?.message.content);
    expect(whole.choices[0]?.finish_reason).toBe("stop");
    expectFox((await chat({ response_format: format, temperature: 1.5, seed: 3 })).choices[0]?.message.content);
    const stream = demo.client.chat.completions.stream({
      model: "demo",
      temperature: 0,
      max_tokens: 120,
      messages,
      response_format: { type: "json_schema", json_schema: { name: "fox", schema: FOX } },
    });
    expect(await stream.finalContent()).toBe(whole.choices[0]?.message.content);
  });

  it("are parsed by the client's helper for zod", async () => {
    const fox = z.object({ name: z.string().max(12), tame: z.boolean() });
    const parsed = await demo.client.chat.completions.parse({
      ...{ model: "demo", temperature: 0, max_tokens: 120, messages },
      response_format: zodResponseFormat(fox, "fox"),
    });
    expect(fox.parse(parsed.choices[0]?.message.parsed)).toEqual(parsed.choices[0]?.message.parsed);
  });

  it("are objects in JSON mode", async () => {
    const { choices } = await chat({ response_format: { type: "json_object" }, max_tokens: 300 });
    if (choices[0]?.finish_reason === "stop") expect(typeof JSON.parse(choices[0].message.content ?? "")).toBe("object");
    else expect(choices[0]?.message.content).toMatch(/^\s*\{/);
  });

  it.each<[string, object, RegExp]>([
    ["a choice", { choice: ["Anna:", "Bert:"] }, /^(Anna|Bert):$/],
    ["a regular expression", { regex: "[0-9]{3}-[0-9]{2}" }, /^\d{3}-\d{2}$/],
    ["a grammar", { grammar: 'root ::= "yes" | "no"' }, /^(yes|no)$/],
    ["a schema", { json: { type: "boolean" } }, /^(true|false)$/],
  ])("match %s, in chats and completions", async (_what, structured_outputs, expected) => {
    expect((await chat({ structured_outputs })).choices[0]?.message.content).toMatch(expected);
    const asked = { model: "demo", prompt: "Who?", temperature: 0, max_tokens: 20, structured_outputs };
    expect((await demo.client.completions.create(asked)).choices[0]?.text).toMatch(expected);
  });

  it.each<[string, object, object]>([
    ["a format that there is not", { response_format: { type: "xml" } }, { param: "response_format.type" }],
    [
      "a schema that cannot be honoured",
      { response_format: { type: "json_schema", json_schema: { name: "x", schema: { not: {} } } } },
      { code: "constraint", param: "response_format" },
    ],
    [
      "a schema that is none",
      { response_format: { type: "json_schema", json_schema: { name: "x", schema: "text" } } },
      { code: "invalid_type" },
    ],
    ["a pattern that is none", { structured_outputs: { regex: "(" } }, { code: "constraint" }],
    ["two at once", { structured_outputs: { regex: "a", choice: ["a"] } }, { param: "structured_outputs" }],
    [
      "two by two names",
      { structured_outputs: { regex: "a" }, response_format: { type: "json_object" } },
      { param: "structured_outputs" },
    ],
    ["no choice", { structured_outputs: { choice: [] } }, { code: "constraint" }],
  ])("refuse %s, and hold nothing", async (_what, change, expected) => {
    await expect(chat(change)).rejects.toMatchObject({ status: 400, type: "invalid_request_error", ...expected });
    expect((await demo.model.status()).scheduler).toMatchObject({ running: 0, waiting: 0 });
  });
});
