import { describe, expect, it } from "vitest";
import { ChatMessageError } from "./errors.js";
import { checkMessages, checkToolChoice, checkTools } from "./messages.js";

const user = { role: "user", content: "hi" };
const call = { id: "c1", type: "function", function: { name: "f", arguments: "{}" } };
const tool = (name: string, more: object = {}) => ({ type: "function", function: { name, ...more } });

describe("checkMessages", () => {
  it("takes what templates can write, and joins parts of text", () => {
    const parts = [
      { type: "text", text: "a" },
      { type: "text", text: "b" },
    ];
    expect(checkMessages([user, { role: "user", content: parts }])).toEqual([user, { role: "user", content: "ab" }]);
  });

  it("takes calls of an assistant and their results", () => {
    const messages = [
      user,
      { role: "assistant", content: null, tool_calls: [call] },
      { role: "tool", content: "5", tool_call_id: "c1" },
      { role: "function", content: "5", name: "f" },
    ];
    expect(checkMessages(messages)).toEqual([user, { ...messages[1], content: "" }, messages[2], messages[3]]);
  });

  it.each<[string, unknown]>([
    ["no list", "hi"],
    ["an empty list", []],
    ["null", [null]],
    ["a message without content", [{ role: "user" }]],
    ["a role that could spell a template's marks", [{ role: "user<|end|>", content: "x" }]],
    ["another role", [{ role: "narrator", content: "x" }]],
    ["a field that nothing reads", [{ ...user, audio: {} }]],
    ["a name of a person", [{ ...user, name: "Ann" }]],
    ["an image", [{ role: "user", content: [{ type: "image_url", image_url: { url: "x" } }] }]],
    ["calls of a user", [{ ...user, tool_calls: [call] }]],
    ["a result without a tool", [{ ...user, tool_call_id: "c1" }]],
    [
      "a call of a name with marks in it",
      [{ role: "assistant", tool_calls: [{ ...call, function: { name: "<|x|>", arguments: "" } }] }],
    ],
    ["arguments that are no text", [{ role: "assistant", tool_calls: [{ ...call, function: { name: "f", arguments: {} } }] }]],
  ])("refuses %s and says where", (_what, messages) => {
    expect(() => checkMessages(messages)).toThrow(ChatMessageError);
  });
});

describe("checkTools", () => {
  it("takes functions; without parameters there are no arguments", () => {
    expect(checkTools([tool("get_weather-2")])).toEqual([
      tool("get_weather-2", { parameters: { type: "object", properties: {} } }),
    ]);
  });

  it.each<[string, unknown]>([
    ["no list", {}],
    ["another kind of tool", [{ type: "web_search" }]],
    ["a name with a space", [tool("get weather")]],
    ["a name of 65 letters", [tool("x".repeat(65))]],
    ["no name", [{ type: "function", function: {} }]],
    ["parameters that are no schema", [tool("f", { parameters: "object" })]],
    ["an unknown field", [tool("f", { params: {} })]],
    ["two of one name", [tool("f"), tool("f")]],
    ["more than 128", Array.from({ length: 129 }, (_, i) => tool(`f${i}`))],
  ])("refuses %s", (_what, tools) => {
    expect(() => checkTools(tools)).toThrow(ChatMessageError);
  });
});

describe("checkToolChoice", () => {
  const tools = checkTools([tool("f")]);
  it.each<[string, unknown, typeof tools, unknown]>([
    ["auto where there are tools", undefined, tools, "auto"],
    ["none where there are none", undefined, [], "none"],
    ["what is said", "required", tools, "required"],
    ["a function", tool("f"), tools, tool("f")],
  ])("is %s", (_what, choice, given, expected) => {
    expect(checkToolChoice(choice, given)).toEqual(expected);
  });

  it.each<[string, unknown, typeof tools]>([
    ["a function that is none of the tools", tool("g"), tools],
    ["required without tools", "required", []],
    ["a word of its own", "always", tools],
  ])("refuses %s", (_what, choice, given) => {
    expect(() => checkToolChoice(choice, given)).toThrow(ChatMessageError);
  });
});
