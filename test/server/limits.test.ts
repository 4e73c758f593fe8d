// Limits on answers: their time, and how many there may be; and clients that try again.

import OpenAI from "openai";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Model } from "../../src/index.js";
import { type DemoServer, loadDemo, metric, serveDemo, until } from "./demo-server.js";

const STORY = { model: "demo", temperature: 0, messages: [{ role: "user" as const, content: "Tell me a story" }] };
const LONG = { ...STORY, max_tokens: 1900, ignore_eos: true } as const;

/** Far more than fits the time limit below on any machine. */
const ENDLESS = { ...LONG, n: 16 } as const;

describe("an answer that takes too long", () => {
  let lent: Model;
  /** Time enough for an answer to begin, and for a short one, on a busy machine. */
  let demo: DemoServer;
  beforeAll(async () => {
    lent = await loadDemo();
    demo = await serveDemo({ lent, requestTimeoutMs: 1500 });
  });
  afterAll(async () => {
    await demo.close();
    await lent.dispose();
  });

  it("ends with 504, and holds nothing any more", async () => {
    const hasty = await serveDemo({ lent, requestTimeoutMs: 100 });
    try {
      const asked = hasty.client.chat.completions.create(ENDLESS);
      await expect(asked).rejects.toMatchObject({ status: 504, type: "timeout_error", code: "request_timeout" });
      await until(async () => (await lent.status()).scheduler.running === 0);
    } finally {
      await hasty.close();
    }
  });

  it("ends with an error in the stream when it has begun", async () => {
    const stream = await demo.client.chat.completions.create({ ...ENDLESS, stream: true });
    let text = "";
    const reading = (async () => {
      for await (const chunk of stream) text += chunk.choices[0]?.delta.content ?? "";
    })();
    await expect(reading).rejects.toMatchObject({ type: "timeout_error", code: "request_timeout" });
    expect(text).not.toBe("");
  });

  it("is not one that is quick", async () => {
    expect((await demo.client.chat.completions.create({ ...STORY, max_tokens: 4 })).choices).toHaveLength(1);
  });
});

describe("more requests than there are places", () => {
  let demo: DemoServer;
  beforeAll(async () => {
    demo = await serveDemo({ maxWaiting: 0, load: { maxSequences: 1 } });
  });
  afterAll(() => demo.close());

  it("are answered to clients that try again, as the server says when", async () => {
    const first = await demo.client.chat.completions.create({ ...LONG, stream: true });
    await expect(demo.client.chat.completions.create({ ...STORY, max_tokens: 4 })).rejects.toBeInstanceOf(OpenAI.RateLimitError);
    const patient = new OpenAI({ baseURL: `${demo.url}/v1`, apiKey: "none", maxRetries: 4 });
    const second = patient.chat.completions.create({ ...STORY, max_tokens: 4 });
    await until(async () => (await metric(demo.url, 'exllama_errors_total{code="queue_full"}')) >= 2);
    first.controller.abort(); // makes room
    expect((await second).choices).toHaveLength(1);
  });
});
