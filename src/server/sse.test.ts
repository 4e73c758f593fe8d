import { Hono } from "hono";
import { describe, expect, it } from "vitest";
import type { AppEnv } from "./app-env.js";
import { type SseOptions, sseEvent, sseResponse } from "./sse.js";

/** A response of these events; `env` as the socket's side would be. */
async function respond(
  events: AsyncIterator<string, unknown>,
  options: Partial<SseOptions> = {},
  env: object = {},
): Promise<Response> {
  const app = new Hono<AppEnv>().get("/", (context) => sseResponse(context, events, { onEnd: () => {}, ...options }));
  return app.request("/", {}, env);
}

describe("sseEvent", () => {
  it.each([
    [sseEvent({ a: "b\nc" }), 'data: {"a":"b\\nc"}\n\n'],
    [sseEvent("[DONE]"), "data: [DONE]\n\n"],
    [sseEvent({ type: "x" }, "x"), 'event: x\ndata: {"type":"x"}\n\n'],
  ])("writes %j", (event, text) => expect(event).toBe(text));
});

describe("sseResponse", () => {
  it("sends events as they are, and says once that it is over", async () => {
    const ends: boolean[] = [];
    const events = (async function* () {
      yield "data: 1\n\n";
      yield "data: 2\n\n";
    })();
    const response = await respond(events, { onEnd: (left) => void ends.push(left) });
    expect(response.headers.get("content-type")).toMatch(/^text\/event-stream/);
    expect(response.headers.get("cache-control")).toContain("no-cache");
    expect(await response.text()).toBe("data: 1\n\ndata: 2\n\n");
    expect(ends).toEqual([false]);
  });

  it("asks for the next event when the one before was taken, not sooner", async () => {
    let made = 0;
    const events = (async function* () {
      for (;;) yield `data: ${made++}\n\n`;
    })();
    const reader = (await respond(events)).body!.getReader();
    for (let i = 0; i < 3; i++) await reader.read();
    for (let turn = 0; turn < 50; turn++) await new Promise((resolve) => setImmediate(resolve));
    expect(made).toBeLessThanOrEqual(4);
    await reader.cancel();
  });

  it("sends comments while there is nothing to say, and loses nothing by them", async () => {
    let speak = () => {};
    const events = (async function* () {
      await new Promise<void>((resolve) => {
        speak = resolve;
      });
      yield "data: late\n\n";
    })();
    const reader = (await respond(events, { pingMs: 5 })).body!.getReader();
    const read = async () => new TextDecoder().decode((await reader.read()).value);
    expect(await read()).toBe(": ping\n\n");
    expect(await read()).toBe(": ping\n\n");
    speak();
    let text = await read();
    while (text === ": ping\n\n") text = await read();
    expect(text).toBe("data: late\n\n");
    expect((await reader.read()).done).toBe(true);
  });

  it("ends the events when its reader leaves", async () => {
    const ends: boolean[] = [];
    let returned = false;
    const events = (async function* () {
      try {
        for (;;) yield "data: x\n\n";
      } finally {
        returned = true;
      }
    })();
    const reader = (await respond(events, { onEnd: (left) => void ends.push(left) })).body!.getReader();
    await reader.read();
    await reader.cancel();
    expect(returned).toBe(true);
    expect(ends).toEqual([true]);
  });

  it("closes the connection of a reader that takes nothing for too long", async () => {
    let destroyed = () => {};
    const gone = new Promise<void>((resolve) => {
      destroyed = resolve;
    });
    const events = (async function* () {
      for (;;) yield "data: x\n\n";
    })();
    const reader = (await respond(events, { stalledMs: 10 }, { outgoing: { destroy: destroyed } })).body!.getReader();
    await reader.read();
    await gone;
    await reader.cancel();
  });
});
