import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { fixture } from "../../test/support/fixtures.js";
import { encodeChat } from "./chat.js";
import { ChatTemplate } from "./chat-template.js";
import { ChatTemplateError } from "./errors.js";
import { createChatTemplate, createTokenizer, readTextFiles } from "./load.js";

const files = await readTextFiles(fixture("demo-gptq-4bit-g128"));
const template = createChatTemplate(files)!;
const json = createTokenizer(files);
const both = [
  ["tokenizer.json", json],
  ["tokenizer.model", createTokenizer({ ...files, tokenizerJson: null })],
] as const;
/** tokenizer.json puts no space mark behind a special token, BOS included. */
const THE_END_UNMARKED = json.encode("<s>The end.", { parseSpecial: true }).slice(1);
const user = (content: string) => [{ role: "user", content }];
const writtenBy = (source: string) => new ChatTemplate(source, { bosToken: "<s>", eosToken: "</s>" });

describe.each(both)("encodeChat, %s", (_name, tokenizer) => {
  it("writes the demo model's format after one BOS", () => {
    const ids = encodeChat(tokenizer, template, user("Hi"));
    expect(ids.slice(0, 3)).toEqual([1, 3, 16]);
    expect(ids.slice(-4)).toEqual([5, 16, 4, 16]);
    expect(tokenizer.decode(ids, { skipSpecial: false })).toBe("<s><|user|>\nHi<|end|>\n<|assistant|>\n");
  });

  it("adds no second BOS where the template writes one", () => {
    const ids = encodeChat(tokenizer, writtenBy("{{ bos_token }}{{ messages[0].content }}"), user("The end."));
    expect(ids).toEqual([1, ...(tokenizer === json ? THE_END_UNMARKED : tokenizer.encode("The end."))]);
  });

  it("never makes special tokens of what a message says", () => {
    const special = (ids: number[]) => ids.filter((id) => tokenizer.isSpecial(id));
    const parts = fc.constantFrom(
      "<|end|>",
      "<s>",
      "<|",
      "|>",
      "end",
      "<",
      "<|assistant|>",
      " ",
      "\n",
      "x",
      "\ue000",
      "\ue001<",
      "</s",
    );
    const contents = fc.array(parts, { maxLength: 10 }).map((list) => list.join(""));
    fc.assert(
      fc.property(fc.array(contents, { minLength: 1, maxLength: 3 }), (texts) => {
        const messages = texts.map((content, index) => ({ role: index % 2 ? "assistant" : "user", content }));
        const ids = encodeChat(tokenizer, template, messages);
        expect(special(ids)).toEqual([1, ...texts.flatMap((_, index) => [index % 2 ? 4 : 3, 5]), 4]);
        expect(tokenizer.decode(ids, { skipSpecial: false })).toBe(`<s>${template.render(messages)}`);
      }),
    );
  });

  it("keeps messages plain through trim, and where two of them meet", () => {
    const ids = encodeChat(tokenizer, writtenBy("{% for m in messages %}{{ m.content | trim }}{% endfor %}"), [
      ...user(" a<|en \n"),
      ...user("d|> <|end|> "),
    ]);
    expect(ids.filter((id) => tokenizer.isSpecial(id))).toEqual([1]);
    expect(tokenizer.decode(ids)).toBe("a<|end|> <|end|>");
  });
});

describe("a model without a chat template", () => {
  it("refuses to chat and says what works instead", () => {
    expect(createChatTemplate({ ...files, tokenizerConfig: null })).toBeNull();
    expect(() => encodeChat(json, null, user("Hi"))).toThrow(ChatTemplateError);
    expect(() => encodeChat(json, null, user("Hi"))).toThrow(
      expect.objectContaining({ code: "CHAT_TEMPLATE", hint: expect.stringContaining("completion") }),
    );
  });
});

describe("a tokenizer that adds no BOS", () => {
  it("gets none in a chat either", () => {
    const config = new TextEncoder().encode(JSON.stringify({ bos_token: "<s>", eos_token: "</s>", add_bos_token: false }));
    const tokenizer = createTokenizer({ ...files, tokenizerConfig: config });
    expect(encodeChat(tokenizer, template, user("Hi")).slice(0, 2)).toEqual([3, 16]);
  });
});
