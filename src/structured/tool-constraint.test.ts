import { afterAll, describe, expect, it } from "vitest";
import { byteVocabulary, END, textOf } from "../../test/support/byte-vocabulary.js";
import { callsBehindMark } from "../text/tools/call-source.js";
import { CallWatch } from "../text/tools/call-watch.js";
import { toolFormatOf } from "../text/tools/tool-format.js";
import type { CallsSource } from "./messages.js";
import { StructuredOutput } from "./structured-output.js";
import { ToolConstraint } from "./tool-constraint.js";

const structured = new StructuredOutput(byteVocabulary, [END]);
afterAll(() => structured.close());

const TOOL = {
  type: "function",
  function: { name: "f", parameters: { type: "object", properties: { n: { enum: [1, 2] } }, required: ["n"] } },
} as const;

async function constraintFor(template: string, once = false): Promise<ToolConstraint> {
  const format = toolFormatOf(template);
  const { before, calls, after } = callsBehindMark(format, [TOOL], true);
  const source: CallsSource = { kind: "calls", before: [before], calls, separator: null, after: [after] };
  const open = () => structured.openSource(source);
  const decoder = new TextDecoder();
  const watch = new CallWatch(format, { push: (id) => decoder.decode(byteVocabulary.bytes(id), { stream: true }) });
  return new ToolConstraint(await open(), { watch, open, once });
}

/** The characters that may come next; `null`: any. */
async function next(constraint: ToolConstraint): Promise<string | null> {
  while (!constraint.ready) await new Promise((resolve) => setTimeout(resolve, 1));
  const mask = constraint.mask();
  if (mask === null) return null;
  return Array.from({ length: 128 }, (_, id) => id)
    .filter((id) => ((mask[id >>> 5]! >>> (id & 31)) & 1) === 1)
    .map((id) => textOf([id]))
    .join("");
}

function say(constraint: ToolConstraint, text: string): void {
  for (const byte of new TextEncoder().encode(text)) constraint.accept(byte);
}

describe("an answer that may call tools", () => {
  it("is free until a call begins, bound to the schema in it, and free again behind it", async () => {
    const constraint = await constraintFor("{{ tools }}<tool_call>");
    say(constraint, "Hä? <tool_box> <tool_call");
    expect(await next(constraint)).toBeNull();
    say(constraint, ">");
    expect(await next(constraint)).toBe("\n");
    say(constraint, '\n{"name": "f", "arguments": {"n": ');
    expect(await next(constraint)).toBe("12");
    say(constraint, "2}}\n</tool_call>");
    expect(await next(constraint)).toBeNull();
    expect(constraint.complete).toBe(false);
    say(constraint, " and <tool_call>");
    expect(await next(constraint)).toBe("\n");
    constraint.close();
  });

  it("knows what of the call came with the token that ended its mark", async () => {
    const constraint = await constraintFor("{{ tools }}[TOOL_CALLS][");
    const piece = Array.from({ length: 300 }, (_, id) => id).find((id) => id >= 256 && textOf([id]) === "[TOOL_CALLS]x")!;
    constraint.accept(piece); // "x" begins no call: it is left free
    expect(await next(constraint)).toBeNull();
    say(constraint, "[TOOL_CALLS]");
    expect(await next(constraint)).toBe("[");
    constraint.close();
  });

  it("ends with its first call where one only is wanted", async () => {
    const constraint = await constraintFor(`{{ tools }}<|python_tag|>{"name": "x", "parameters": {}}`, true);
    say(constraint, '{ "name": "');
    expect(await next(constraint)).toBe("f");
    say(constraint, 'f", "parameters": {"n": 1}}');
    while (!constraint.ready) await new Promise((resolve) => setTimeout(resolve, 1));
    expect(constraint.complete).toBe(true);
    constraint.close();
  });

  it("leaves an answer alone that begins like a call and is none", async () => {
    const constraint = await constraintFor(`{{ tools }}<|python_tag|>{"name": "x", "parameters": {}}`);
    say(constraint, '{"city": "');
    expect(await next(constraint)).toBeNull();
    constraint.close();
  });
});
