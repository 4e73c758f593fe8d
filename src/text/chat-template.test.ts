import { describe, expect, it } from "vitest";
import { ChatTemplate, chatTemplateSource } from "./chat-template.js";
import { ChatTemplateError } from "./errors.js";

const tokens = { bosToken: "<s>", eosToken: "</s>" };
const render = (source: string, messages = [{ role: "user", content: "Hi" }], options = {}) =>
  new ChatTemplate(source, tokens).render(messages, options);

describe("ChatTemplate", () => {
  it.each([
    [
      "messages and the generation prompt",
      "{% for m in messages %}[{{ m['role'] }}]{{ m.content }}{% endfor %}{% if add_generation_prompt %}>{% endif %}",
      "[user]Hi>",
    ],
    ["bos_token and eos_token", "{{ bos_token }}x{{ eos_token }}", "<s>x</s>"],
    ["tools, undefined", "{{ tools is defined }}{% if tools %}y{% endif %}", "false"],
    ["tojson", "{{ messages[0] | tojson }}", '{"role": "user", "content": "Hi"}'],
    [
      "namespace and slices",
      "{% set ns = namespace(n=0) %}{% for m in messages[0:] %}{% set ns.n = ns.n + 1 %}{% endfor %}{{ ns.n }}",
      "1",
    ],
    ["range, none and true", "{% for i in range(3) %}{{ i }}{% endfor %}{{ none is none }}{{ True }}", "012truetrue"],
    ["blocks that trim their lines", "{% if true %}\nx\n{% endif %}\ny", "x\ny"],
  ])("knows %s", (_what, source, text) => {
    expect(render(source).replace(/True/g, "true").replace(/False/g, "false")).toBe(text);
  });

  it("ends before the answer unless told not to", () => {
    const source = "{% if add_generation_prompt %}>{% endif %}";
    expect(render(source)).toBe(">");
    expect(render(source, [], { addGenerationPrompt: false })).toBe("");
  });

  it("writes dates in English", () => {
    expect(render("{{ strftime_now('%d %b %Y') }}")).toMatch(/^\d\d (Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) \d{4}$/);
  });

  it("says why when the template refuses the messages", () => {
    expect(() => render("{{ raise_exception('roles must alternate') }}")).toThrow(/refuses these messages: roles must alternate/);
  });

  it.each(["{% for %}", "{{ ", "{% if x %}", "{{ 1 +* 2 }}", `${"(".repeat(20_000)}`.padStart(20_003, "{{ ")])(
    "refuses what is not Jinja: %.20s",
    (source) => {
      expect(() => render(source)).toThrow(ChatTemplateError);
    },
  );

  it.each([
    [
      "nested loops",
      "{% for a in range(9999) %}{% for b in range(9999) %}{% for c in range(9999) %}{% endfor %}{% endfor %}{% endfor %}",
    ],
    ["a huge range", "{% for a in range(999999999) %}{% endfor %}"],
    ["a range without end", "{% for a in range(1, 2, 0) %}{% endfor %}"],
    ["a text that doubles", `{% set ns = namespace(x='aaaaaaaa') %}${"{% set ns.x = ns.x ~ ns.x %}".repeat(64)}`],
    ["a list that doubles", `{% set ns = namespace(x=[1, 2]) %}${"{% set ns.x = ns.x + ns.x %}".repeat(64)}`],
    [
      "output without end",
      "{% for a in range(200000) %}aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa{% endfor %}",
    ],
    ["a macro that calls itself", "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}"],
    ["a missing function", "{{ nothing() }}"],
  ])("ends %s with a typed error", (_what, source) => {
    expect(() => render(source)).toThrow(ChatTemplateError);
  });

  it("takes a conversation of thousands of turns", () => {
    const turns = Array.from({ length: 5000 }, (_, index) => ({
      role: index % 2 ? "assistant" : "user",
      content: "word ".repeat(20),
    }));
    const text = render("{% for m in messages %}{{ '<|' + m['role'] + '|>' + (m.content | trim) }}{% endfor %}", turns);
    expect(text).toBe(turns.map(({ role, content }) => `<|${role}|>${content.trim()}`).join(""));
  });
});

describe("chatTemplateSource", () => {
  const none = { jinja: null, json: null, config: null };
  it.each([
    ["chat_template.jinja before all others", { jinja: "j", json: { chat_template: "a" }, config: { chat_template: "b" } }, "j"],
    [
      "chat_template.json before tokenizer_config.json",
      { ...none, json: { chat_template: "a" }, config: { chat_template: "b" } },
      "a",
    ],
    ["a text in tokenizer_config.json", { ...none, config: { chat_template: "b" } }, "b"],
    [
      "the default one of a list",
      {
        ...none,
        config: {
          chat_template: [
            { name: "rag", template: "r" },
            { name: "default", template: "d" },
          ],
        },
      },
      "d",
    ],
    ["the default one of an object", { ...none, config: { chat_template: { rag: "r", default: "d" } } }, "d"],
    ["nothing where there is none", { ...none, config: { bos_token: "<s>" } }, null],
  ])("takes %s", (_what, sources, expected) => {
    expect(chatTemplateSource(sources)).toBe(expected);
  });

  it.each([
    [
      [
        { name: "rag", template: "r" },
        { name: "tool", template: "t" },
      ],
    ],
    [5],
    [[null]],
    [[{ name: "default", template: 5 }]],
  ])("refuses %j", (chat_template) => {
    expect(() => chatTemplateSource({ ...none, config: { chat_template } })).toThrow(/chat.template/);
  });
});
