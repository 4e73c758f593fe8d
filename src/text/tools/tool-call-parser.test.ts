import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { ToolCallParser } from "./tool-call-parser.js";
import { type ToolFormat, toolFormatOf } from "./tool-format.js";

const FORMATS = {
  hermes: toolFormatOf("{% if tools %}<tool_call>{% endif %}"),
  llama: toolFormatOf(`{{ tools }}<|python_tag|>{"name": "x", "parameters": {}}`),
  mistral: toolFormatOf("{{ tools }}[TOOL_CALLS] ["),
  named: toolFormatOf("{{ tools }}[TOOL_CALLS]name[ARGS]{}"),
};
const TOOLS = new Set(["add", "get_weather"]);

/** Everything that a parser says of an answer that comes in these pieces. */
function read(format: ToolFormat, pieces: readonly string[]) {
  let ids = 0;
  const parser = new ToolCallParser({ format, tools: TOOLS, newId: () => `id${ids++}` });
  const said = [...pieces.map((piece) => parser.push(piece)), parser.end()];
  const deltas = said.flatMap(({ calls }) => calls);
  const told = parser.calls.map((_, index) => ({
    name: deltas.find((delta) => delta.index === index && delta.name !== undefined)?.name,
    arguments: deltas
      .filter((delta) => delta.index === index)
      .map((delta) => delta.arguments ?? "")
      .join(""),
  }));
  expect(told).toEqual(parser.calls.map(({ function: called }) => called));
  return {
    text: said.map(({ text }) => text).join(""),
    calls: parser.calls.map(({ function: called }) => [called.name, called.arguments]),
  };
}

const hermes = (name: string, args: string) => `<tool_call>\n{"name": "${name}", "arguments": ${args}}\n</tool_call>`;

describe.each<[keyof typeof FORMATS, string, string, [string, string][]]>([
  ["hermes", "Hello <b>you</b>, 1 < 2", "Hello <b>you</b>, 1 < 2", []],
  ["hermes", hermes("add", '{"a": 1}'), "", [["add", '{"a": 1}']]],
  [
    "hermes",
    `Let me see.\n${hermes("add", '{"a": "}\\"{"}')}\n${hermes("get_weather", "{}")}`,
    "Let me see.",
    [
      ["add", '{"a": "}\\"{"}'],
      ["get_weather", "{}"],
    ],
  ],
  [
    "hermes",
    '<tool_call>{"arguments": {"a": [1, {"b": 2}]}, "name": "add"}</tool_call> done',
    " done",
    [["add", '{"a": [1, {"b": 2}]}']],
  ],
  ["hermes", '<tool_call>{"name": "add"}</tool_call>', "", [["add", "{}"]]],
  ["hermes", hermes("unknown", "{}"), hermes("unknown", "{}"), []],
  ["hermes", "<tool_call>\nnot JSON\n</tool_call>", "<tool_call>\nnot JSON\n</tool_call>", []],
  ["hermes", '<tool_call>\n{"name": "ad', '<tool_call>\n{"name": "ad', []],
  ["hermes", '<tool_call>\n{"name": "add", "arguments": {"a"', "", [["add", '{"a"']]],
  ["hermes", `${hermes("add", "{}")}\n<tool_`, "", [["add", "{}"]]],
  ["hermes", "a <tool_", "a <tool_", []],
  ["llama", '{"name": "add", "parameters": {"a": 1}}', "", [["add", '{"a": 1}']]],
  ["llama", '<|python_tag|>{"type": "function", "name": "add", "parameters": {"a": 1}}', "", [["add", '{"a": 1}']]],
  ["llama", '{"name": "Ann", "age": 3}', '{"name": "Ann", "age": 3}', []],
  ["llama", '{"city": "Rome"}', '{"city": "Rome"}', []],
  ["llama", 'It is {"name": "add"}', 'It is {"name": "add"}', []],
  [
    "mistral",
    '[TOOL_CALLS] [{"name": "add", "arguments": {"a": 1}}, {"name": "get_weather", "arguments": {}}]',
    "",
    [
      ["add", '{"a": 1}'],
      ["get_weather", "{}"],
    ],
  ],
  ["mistral", "[TOOL_CALLS", "[TOOL_CALLS", []],
  [
    "named",
    '[TOOL_CALLS]add[ARGS]{"a": 1}[TOOL_CALLS]get_weather[CALL_ID]x1[ARGS]{}',
    "",
    [
      ["add", '{"a": 1}'],
      ["get_weather", "{}"],
    ],
  ],
  ["named", "[TOOL_CALLS]nothing", "[TOOL_CALLS]nothing", []],
])("an answer in the format of %s: %j", (name, answer, text, calls) => {
  it("is the same whole and in any pieces", () => {
    expect(read(FORMATS[name], [answer])).toEqual({ text, calls });
    fc.assert(
      fc.property(fc.array(fc.nat(answer.length), { maxLength: 12 }), (cuts) => {
        const at = [0, ...[...cuts].sort((a, b) => a - b), answer.length];
        expect(
          read(
            FORMATS[name],
            at.slice(1).map((end, index) => answer.slice(at[index], end)),
          ),
        ).toEqual({ text, calls });
      }),
    );
  });
});

describe("a tool call parser", () => {
  it("hands text on at once, and holds back what may be a mark only", () => {
    const parser = new ToolCallParser({ format: FORMATS.hermes, tools: TOOLS, newId: () => "id" });
    expect(parser.push("one two").text).toBe("one two");
    expect(parser.push(" <tool").text).toBe("");
    expect(parser.push("box>").text).toBe(" <toolbox>");
    expect(parser.push('<tool_call>{"name": "add", "arguments": {"a').calls).toEqual([
      { index: 0, id: "id", name: "add" },
      { index: 0, arguments: '{"a' },
    ]);
  });
});
