// Tools in chats, on the embedded model under the templates of several families.

import { afterAll, beforeAll, describe, expect, it } from "vitest";
import {
  ChatMessageError,
  type ChatOptions,
  ConstraintError,
  loadModel,
  type Model,
  type Tool,
  type ToolCall,
  UsageError,
} from "../../src/index.js";
import { type DemoVariant, demoVariant } from "../support/demo-variant.js";
import { satisfies } from "../support/json-schema-judge.js";

const PARAMETERS = {
  get_weather: {
    type: "object",
    properties: { city: { type: "string", maxLength: 8 }, unit: { enum: ["C", "F"] } },
    required: ["city", "unit"],
  },
  add: {
    type: "object",
    properties: { a: { type: "integer", minimum: 0, maximum: 99 }, b: { type: "integer", minimum: 0, maximum: 99 } },
    required: ["a", "b"],
  },
};
const TOOLS: Tool[] = Object.entries(PARAMETERS).map(([name, parameters]) => ({
  type: "function",
  function: { name, parameters },
}));
const QUESTION = [{ role: "user", content: "How warm is it?" }];
const turns = (mark: string) =>
  `{% if tools %}{{ tools | tojson }}${mark}{% endif %}{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}`;

function expectValid(calls: readonly ToolCall[] | undefined): void {
  for (const { id, function: called } of calls ?? []) {
    expect(id).toMatch(/^(call_[a-z0-9]{24}|[a-z0-9]{9})$/);
    expect(satisfies(PARAMETERS[called.name as keyof typeof PARAMETERS], JSON.parse(called.arguments)), called.arguments).toBe(
      true,
    );
  }
}

describe.each<[string, string, Record<string, string>]>([
  ["a template without tools", "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}", {}],
  [
    "a template that takes no system message",
    "{% if messages[0].role == 'system' %}{{ raise_exception('no') }}{% endif %}{{ messages[0].content }}\nAnswer: once upon a",
    {},
  ],
  ["Qwen's template", turns("<tool_call>"), {}],
  ["Llama's template", turns('<|python_tag|>"parameters": '), { "<|user|>": "<|python_tag|>" }],
  ["Mistral's template", turns("[TOOL_CALLS] ["), { "<|user|>": "[TOOL_CALLS]" }],
  ["Mistral's newer template", turns("[TOOL_CALLS]x[ARGS]"), { "<|user|>": "[TOOL_CALLS]", "<|assistant|>": "[ARGS]" }],
])("a chat with tools under %s", (_what, template, renamed) => {
  let variant: DemoVariant;
  let model: Model;
  beforeAll(async () => {
    variant = demoVariant(template, renamed);
    model = await loadModel(variant.folder, { engine: "thread", ctx: 1024, maxSequences: 4, threads: 1 });
  });
  afterAll(async () => {
    await model.dispose();
    variant.remove();
  });
  const ask = (options: ChatOptions) =>
    model.chat(QUESTION, { tools: TOOLS, maxTokens: 120, temperature: 1, seed: 3, ...options });

  it("calls the function that is asked for, with arguments that its schema accepts", async () => {
    const generation = ask({ toolChoice: { type: "function", function: { name: "add" } } });
    const events = [];
    for await (const event of generation.events()) events.push(event);
    const { text, toolCalls, finishReason } = await generation.result;
    expect([text, toolCalls?.length, toolCalls?.[0]?.function.name, finishReason]).toEqual(["", 1, "add", "stop"]);
    expectValid(toolCalls);
    const deltas = events.flatMap((event) => event.toolCalls ?? []);
    expect(deltas.map((delta) => delta.arguments ?? "").join("")).toBe(toolCalls?.[0]?.function.arguments);
    expect(deltas.filter((delta) => delta.id !== undefined)).toEqual([
      expect.objectContaining({ index: 0, id: toolCalls?.[0]?.id, name: "add" }),
    ]);
    expect(events.map((event) => event.text).join("")).toBe("");
  });

  it("calls at least one where a call is required, in a batch as alone", async () => {
    const [first, ...same] = await Promise.all(
      [1, 2].map(() => ask({ toolChoice: "required", parallelToolCalls: false }).result),
    );
    expect([first!.text, first!.toolCalls?.length, first!.finishReason]).toEqual(["", 1, "stop"]);
    expectValid(first!.toolCalls);
    for (const other of same) expect(other.ids).toEqual(first!.ids);
  });

  it("answers with text where it likes to, or must", async () => {
    for (const toolChoice of ["auto", "none"] as const) {
      const result = await ask({ toolChoice, maxTokens: 12, temperature: 0 }).result;
      expect(result.toolCalls).toBeUndefined();
      expect(result.text.length).toBeGreaterThan(0);
    }
  });
});

describe("a chat with tools", () => {
  let variant: DemoVariant;
  let model: Model;
  beforeAll(async () => {
    variant = demoVariant(turns("[TOOL_CALLS] ["), { "<|user|>": "[TOOL_CALLS]" });
    model = await loadModel(variant.folder, { engine: "thread", ctx: 1024, threads: 1 });
  });
  afterAll(async () => {
    await model.dispose();
    variant.remove();
  });

  it("is bound to the schemas from the moment when the model begins a call by itself", async () => {
    const [mark] = await model.tokenize("[TOOL_CALLS]", { parseSpecial: true }).then((ids) => ids.slice(-1));
    const result = await model.chat(QUESTION, {
      tools: TOOLS,
      logitBias: [[mark!, 50]],
      parallelToolCalls: false,
      maxTokens: 100,
      seed: 5,
      temperature: 1,
    }).result;
    expect([result.text, result.toolCalls?.length, result.finishReason]).toEqual(["", 1, "stop"]);
    expectValid(result.toolCalls);
  });

  it("goes on with the results", async () => {
    const tool_calls: ToolCall[] = [{ id: "call_1", type: "function", function: { name: "add", arguments: '{"a":1,"b":2}' } }];
    const talk = [
      ...QUESTION,
      { role: "assistant", content: null, tool_calls },
      { role: "tool", tool_call_id: "call_1", content: "3" },
    ];
    expect((await model.chat(talk, { tools: TOOLS, maxTokens: 5 }).result).ids.length).toBeGreaterThan(0);
    expect((await model.tokenizeChat(talk, { tools: TOOLS })).length).toBeGreaterThan((await model.tokenizeChat(talk)).length);
  });

  it.each<[string, ChatOptions, unknown]>([
    ["a tool's name with a space", { tools: [{ type: "function", function: { name: "a b" } }] }, ChatMessageError],
    [
      "a choice that is none of the tools",
      { tools: TOOLS, toolChoice: { type: "function", function: { name: "no" } } },
      ChatMessageError,
    ],
    ["a required call without tools", { toolChoice: "required" }, ChatMessageError],
    ["a constraint beside tools", { tools: TOOLS, constraint: { kind: "json" } }, UsageError],
    [
      "parameters that cannot be kept",
      { tools: [{ type: "function", function: { name: "f", parameters: { not: {} } } }] },
      ConstraintError,
    ],
  ])("refuses %s", async (_what, options, kind) => {
    await expect((async () => model.chat(QUESTION, options).result)()).rejects.toBeInstanceOf(kind);
  });
});
