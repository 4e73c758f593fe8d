// The real `openai` client against the server on the demo model: completions, embeddings, models,
// and the tokenizer's routes.

import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type DemoServer, post, postJson, serveDemo } from "./demo-server.js";

let demo: DemoServer;
beforeAll(async () => {
  demo = await serveDemo();
});
afterAll(() => demo.close());

const ONCE = { model: "demo", prompt: "Once upon a time", temperature: 0, max_tokens: 8 } as const;
const complete = (change: object) => demo.client.completions.create({ ...ONCE, ...change, stream: false });

describe("completions", () => {
  it("goes on as the model does by itself, 16 tokens where nobody says", async () => {
    const alone = await demo.model.generate(ONCE.prompt, { temperature: 0, maxTokens: 16 }).result;
    const completion = await complete({ max_tokens: undefined });
    expect(completion).toMatchObject({
      object: "text_completion",
      choices: [{ index: 0, text: alone.text, finish_reason: "length", logprobs: null }],
      usage: { prompt_tokens: alone.promptTokens, completion_tokens: 16 },
    });
  });

  it("streams the same text", async () => {
    const stream = await demo.client.completions.create({ ...ONCE, stream: true, stream_options: { include_usage: true } });
    const chunks = [];
    for await (const chunk of stream) chunks.push(chunk);
    expect(chunks.map((chunk) => chunk.choices[0]?.text ?? "").join("")).toBe((await complete({})).choices[0]?.text);
    expect(chunks.at(-2)?.choices[0]?.finish_reason).toBe("length");
    expect(chunks.at(-1)).toMatchObject({ choices: [], usage: { completion_tokens: 8 } });
  });

  it("takes a prompt as ids, and several prompts at once", async () => {
    const ids = await demo.model.tokenize(ONCE.prompt, { addBos: true });
    const text = (await complete({})).choices[0]?.text;
    expect((await complete({ prompt: ids })).choices[0]?.text).toBe(text);
    const several = await complete({ prompt: [ids, await demo.model.tokenize("The dog", { addBos: true })], n: 2 });
    expect(several.choices.map((choice) => choice.index)).toEqual([0, 1, 2, 3]);
    expect(several.choices[0]?.text).toBe(text);
    expect(several.choices[3]?.text).toBe((await complete({ prompt: "The dog" })).choices[0]?.text);
    expect(several.usage?.completion_tokens).toBe(32);
  });

  it("echoes the prompt, with the log-probabilities of all tokens", async () => {
    const plain = await complete({ logprobs: 2 });
    const echo = await complete({ echo: true, logprobs: 2 });
    const [choice] = echo.choices;
    expect(choice?.text).toBe(ONCE.prompt + plain.choices[0]?.text);
    const { tokens, token_logprobs: logprobs, top_logprobs: top, text_offset: offsets } = choice!.logprobs!;
    const promptTokens = echo.usage!.prompt_tokens;
    expect(tokens).toHaveLength(promptTokens + 8);
    expect(logprobs?.[0]).toBeNull();
    expect(top?.[0]).toBeNull();
    for (const [i, token] of tokens!.entries()) if (i > 1) expect(choice?.text.startsWith(token, offsets![i])).toBe(true); // after BOS and the space it brings
    expect(tokens?.slice(promptTokens)).toEqual(plain.choices[0]?.logprobs?.tokens);
    const alone = await demo.model.logprobs(await demo.model.tokenize(ONCE.prompt, { addBos: true }));
    for (const [i, logprob] of alone.entries()) expect(logprobs?.[i + 1]).toBeCloseTo(logprob, 4);
    for (const likely of top?.slice(1) ?? []) expect(Object.keys(likely)).toHaveLength(2);
  });

  it("scores a prompt alone: echo with no further token", async () => {
    const scored = await complete({ echo: true, logprobs: 0, max_tokens: 0 });
    expect(scored.choices[0]).toMatchObject({ text: ONCE.prompt });
    expect(scored.choices[0]?.logprobs?.tokens).toHaveLength(scored.usage!.prompt_tokens);
  });

  it("streams an echo, and log-probabilities", async () => {
    const parts = async (change: object) => {
      const stream = await demo.client.completions.create({ ...ONCE, ...change, stream: true });
      const choices = [];
      for await (const chunk of stream) choices.push(chunk.choices[0]!);
      return choices;
    };
    const echo = await parts({ echo: true });
    expect(echo.map((part) => part.text).join("")).toBe((await complete({ echo: true })).choices[0]?.text);
    const scored = await parts({ logprobs: 1 });
    const whole = (await complete({ logprobs: 1 })).choices[0]?.logprobs;
    for (const list of ["tokens", "token_logprobs", "text_offset"] as const)
      expect(scored.flatMap((part): unknown[] => part.logprobs?.[list] ?? [])).toEqual(whole?.[list]);
  });

  it("gives the likeliest of several answers", async () => {
    const asked = { temperature: 1.5, seed: 3, logprobs: 0 };
    const mean = (logprobs: readonly number[] = []) => logprobs.reduce((sum, one) => sum + one, 0) / logprobs.length;
    const all = (await complete({ ...asked, n: 4 })).choices.map((choice) => mean(choice.logprobs?.token_logprobs ?? []));
    const best = await complete({ ...asked, n: 2, best_of: 4 });
    const given = best.choices.map((choice) => mean(choice.logprobs?.token_logprobs ?? []));
    expect(given).toEqual(all.sort((a, b) => b - a).slice(0, 2));
    expect(best.choices.map((choice) => choice.index)).toEqual([0, 1]);
    expect(best.usage?.completion_tokens).toBe(32);
  });

  it("tells the ids of the tokens, too, if asked", async () => {
    const alone = await demo.model.generate(ONCE.prompt, { temperature: 0, maxTokens: 8 }).result;
    expect((await complete({ return_token_ids: true })).choices[0]).toMatchObject({ token_ids: alone.ids });
    const asked = { ...ONCE, return_token_ids: true, stream: true } as const;
    const ids = [];
    for await (const chunk of await demo.client.completions.create(asked))
      ids.push(...((chunk.choices[0] as { token_ids?: number[] }).token_ids ?? []));
    expect(ids).toEqual(alone.ids);
  });

  it("knows what is a special token only if told to", async () => {
    const plain = await complete({ prompt: "<|user|>\nHi<|end|>\n", max_tokens: 1 });
    const special = await complete({ prompt: "<|user|>\nHi<|end|>\n", max_tokens: 1, parse_special: true, add_bos: false });
    expect(special.usage!.prompt_tokens).toBeLessThan(plain.usage!.prompt_tokens);
  });

  it.each<[string, object, object]>([
    ["filling a gap", { suffix: "the end" }, { code: "unsupported_parameter", param: "suffix" }],
    ["the best of fewer than asked", { n: 3, best_of: 2 }, { param: "best_of" }],
    ["nothing", { max_tokens: 0 }, { param: "max_tokens" }],
    ["an empty prompt", { prompt: "" }, { code: "empty_prompt" }],
    ["ids that the model does not have", { prompt: [1, 999_999] }, { code: "token_id" }],
    ["log-probabilities by the million", { prompt: Array(8).fill("a"), n: 4, logprobs: 20 }, { param: "logprobs" }],
    ["a BOS for ids", { prompt: [1, 2], add_bos: true }, { param: "add_bos" }],
    ["prompts of two kinds", { prompt: ["a", [1]] }, { code: "invalid_type" }],
    ["more sequences than there are places", { prompt: Array(40).fill("a"), n: 2 }, { code: "too_many_sequences" }],
  ])("refuses %s", async (_what, change, expected) => {
    await expect(complete(change)).rejects.toMatchObject({ status: 400, ...expected });
  });

  it.each<[string, object, string]>([
    ["the best of several", { best_of: 2 }, "best_of"],
    ["the prompt's log-probabilities", { echo: true, logprobs: 1 }, "logprobs"],
  ])("refuses to stream %s", async (_what, change, param) => {
    const asked = demo.client.completions.create({ ...ONCE, ...change, stream: true });
    await expect(asked).rejects.toMatchObject({ status: 400, param });
  });
});

describe("embeddings", () => {
  const norm = (vector: readonly number[]) => Math.hypot(...vector);
  const dot = (a: readonly number[], b: readonly number[]) => a.reduce((sum, value, i) => sum + value * b[i]!, 0);

  it("are vectors of length 1, nearer to each other where texts are", async () => {
    const input = ["The fox ran into the forest.", "A fox ran through the forest.", "Install the package with npm."];
    const { data, usage } = await demo.client.embeddings.create({ model: "demo", input, encoding_format: "float" });
    const [fox, likewise, npm] = data.map((one) => one.embedding) as [number[], number[], number[]];
    expect(data.map((one) => one.index)).toEqual([0, 1, 2]);
    for (const vector of [fox, likewise, npm]) expect(norm(vector)).toBeCloseTo(1, 5);
    expect(dot(fox, likewise)).toBeGreaterThan(dot(fox, npm));
    expect(usage.prompt_tokens).toBeGreaterThan(15);
  });

  it("are the same as numbers and as base64, which the client asks for by itself", async () => {
    const asked = { model: "demo", input: "The fox" };
    const numbers = await demo.client.embeddings.create({ ...asked, encoding_format: "float" });
    expect((await demo.client.embeddings.create(asked)).data).toEqual(numbers.data);
    const raw = await postJson<{ data: [{ embedding: string }] }>(`${demo.url}/v1/embeddings`, {
      ...asked,
      encoding_format: "base64",
    });
    const bytes = Buffer.from(raw.data[0].embedding, "base64");
    expect(bytes.readFloatLE(4)).toBe(numbers.data[0]?.embedding[1]);
  });

  it("take ids, and more texts than run at once", async () => {
    const ids = await demo.model.tokenize("The fox", { addBos: true });
    const { data } = await demo.client.embeddings.create({ model: "demo", input: Array(40).fill(ids) });
    expect(data).toHaveLength(40);
    expect(data[39]?.embedding).toEqual(data[0]?.embedding);
  });

  it.each<[string, object, object]>([
    ["an empty text", { input: "" }, { param: "input" }],
    ["a size of their own", { input: "a", dimensions: 8 }, { code: "unsupported_parameter", param: "dimensions" }],
    ["a text longer than the context", { input: "word ".repeat(4000) }, { code: "context_length_exceeded" }],
  ])("refuse %s", async (_what, change, expected) => {
    const asked = demo.client.embeddings.create({ model: "demo", input: "x", ...change });
    await expect(asked).rejects.toMatchObject({ status: 400, ...expected });
  });
});

interface Tokenized {
  readonly tokens: readonly number[];
  readonly count: number;
}

describe("the other routes", () => {
  it("lists the model and describes it", async () => {
    const list = await demo.client.models.list();
    expect(list.data.map((model) => model.id)).toEqual(["demo"]);
    expect(await demo.client.models.retrieve("demo")).toMatchObject({ object: "model", context: 2048, backend: "cpu" });
    await expect(demo.client.models.retrieve("gpt-4")).rejects.toMatchObject({ status: 404, code: "model_not_found" });
  });

  it("turns text and conversations into ids and back", async () => {
    const tokens = await postJson<Tokenized>(`${demo.url}/tokenize`, { prompt: "Once upon a time", add_bos: true });
    expect(tokens).toMatchObject({ count: tokens.tokens.length, max_model_len: 2048 });
    const back = await postJson<{ prompt: string }>(`${demo.url}/detokenize`, { tokens: tokens.tokens });
    expect(back.prompt).toBe("Once upon a time");
    const messages = [{ role: "user", content: "Hi" }];
    const chat = await postJson<Tokenized>(`${demo.url}/tokenize`, { messages });
    expect(chat.tokens).toEqual(await demo.model.tokenizeChat(messages));
    expect((await post(`${demo.url}/tokenize`, {})).status).toBe(400);
    expect((await post(`${demo.url}/tokenize`, { messages, add_bos: true })).status).toBe(400);
    expect((await post(`${demo.url}/detokenize`, { tokens: [-1] })).status).toBe(400);
  });

  it("tells its plan and its figures", async () => {
    expect(await (await fetch(`${demo.url}/plan`)).json()).toMatchObject({ ok: true, context: 2048, maxSequences: 4 });
    const metrics = await (await fetch(`${demo.url}/metrics`)).text();
    for (const name of [
      "sequences_running",
      "tokens_per_second",
      "kv_pages_free",
      "device_memory_planned_bytes",
      "inter_token_seconds_bucket",
    ])
      expect(metrics).toMatch(new RegExp(`^exllama_${name}[{ ]`, "m"));
    expect(await (await fetch(`${demo.url}/health`)).json()).toEqual({ status: "ok" });
  });
});
