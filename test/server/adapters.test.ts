// LoRA adapters by request, with the real `openai` client.

import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { fixture } from "../support/fixtures.js";
import { type DemoServer, serveDemo } from "./demo-server.js";

let demo: DemoServer;
beforeAll(async () => {
  const adapters = { pirate: fixture("lora-pirate"), brief: fixture("lora-brief") };
  demo = await serveDemo({ names: ["demo", "other"], load: { adapters, ctx: 1024 } });
});
afterAll(() => demo.close());

const messages = [{ role: "user" as const, content: "Tell me a story about a fox." }];
const answer = async (change: object) => {
  const asked = { model: "demo", temperature: 0, max_tokens: 12, messages, ...change, stream: false as const };
  return (await demo.client.chat.completions.create(asked)).choices[0]?.message.content;
};
const alone = async (adapters: { name: string; weight?: number }[]) =>
  (await demo.model.chat(messages, { temperature: 0, maxTokens: 12, adapters }).result).text;

describe("adapters", () => {
  it("are listed, and models with each of them", async () => {
    const { data } = await demo.client.models.list();
    expect(data.map(({ id }) => id)).toEqual(["demo", "demo:pirate", "demo:brief", "other", "other:pirate", "other:brief"]);
    expect(await demo.client.models.retrieve("demo:pirate")).toMatchObject({ id: "demo:pirate", parent: "demo" });
    expect(await (await fetch(`${demo.url}/v1/adapters`)).json()).toMatchObject({
      data: [
        { id: "pirate", rank: 8 },
        { id: "brief", rank: 4 },
      ],
    });
  });

  it("answer by the model's name or by their own, several with weights, each as the library does", async () => {
    const pirate = await alone([{ name: "pirate" }]);
    expect(pirate).not.toBe(await alone([]));
    expect(await answer({ model: "demo:pirate" })).toBe(pirate);
    expect(await answer({ model: "other:pirate" })).toBe(pirate);
    expect(await answer({ adapters: [{ name: "pirate" }] })).toBe(pirate);
    const both = [
      { name: "pirate", weight: 0.5 },
      { name: "brief", weight: 0.8 },
    ];
    expect(await answer({ adapters: both })).toBe(await alone(both));
    expect(await answer({})).toBe(await alone([]));
  });

  it("change completions and embeddings, too", async () => {
    const complete = async (model: string) =>
      (await demo.client.completions.create({ model, prompt: "Once upon a time", temperature: 0, max_tokens: 12 })).choices[0]
        ?.text;
    expect(await complete("demo:pirate")).not.toBe(await complete("demo"));
    const vector = async (model: string) => (await demo.client.embeddings.create({ model, input: "fox" })).data[0]?.embedding;
    expect(await vector("demo:pirate")).not.toEqual(await vector("demo"));
  });

  it.each<[string, object, object]>([
    ["one that is not there, as a model", { model: "demo:cook" }, { status: 404, code: "model_not_found" }],
    ["one that is not there", { adapters: [{ name: "cook" }] }, { status: 400, param: "adapters" }],
    ["a weight that is none", { adapters: [{ name: "pirate", weight: 1e9 }] }, { status: 400, param: "adapters" }],
    ["the same by two names", { model: "demo:pirate", adapters: [{ name: "brief" }] }, { status: 400, param: "adapters" }],
  ])("refuse %s", async (_what, change, expected) => {
    await expect(answer(change)).rejects.toMatchObject(expected);
  });
});
