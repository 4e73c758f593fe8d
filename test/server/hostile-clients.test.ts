// Clients that send too much, too little, or nothing at all: each is refused, and the server goes on.

import { connect, type Socket } from "node:net";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type DemoServer, metric, post, serveDemo, until } from "./demo-server.js";

let demo: DemoServer;
beforeAll(async () => {
  demo = await serveDemo({ maxBody: 128 * 1024, maxWaiting: 4, load: { maxSequences: 2 } });
});
afterAll(() => demo.close());

const CHAT = "/v1/chat/completions";
const hi = (change: object = {}) => ({ messages: [{ role: "user", content: "Hi" }], max_tokens: 2, temperature: 0, ...change });

/** Sends bytes and reads what comes until the server closes, or until `enough`. */
function raw(bytes: string, enough: (text: string) => boolean = () => false): Promise<string> {
  return new Promise((resolve, reject) => {
    let text = "";
    const socket = connectTo(demo.url, () => socket.write(bytes));
    socket.on("data", (data) => {
      text += data.toString("latin1");
      if (enough(text)) socket.destroy();
    });
    socket.on("close", () => resolve(text));
    socket.on("error", (error: NodeJS.ErrnoException) =>
      error.code === "ECONNRESET" || error.code === "EPIPE" ? resolve(text) : reject(error),
    );
  });
}

function connectTo(url: string, onConnect: () => void): Socket {
  const { hostname, port } = new URL(url);
  return connect({ host: hostname, port: Number(port) }, onConnect);
}

async function expectAlive(): Promise<void> {
  const response = await post(demo.url + CHAT, hi());
  expect(response.status).toBe(200);
  expect(await response.json()).toMatchObject({ choices: [{ message: { role: "assistant" } }] });
}

describe("bodies", () => {
  it.each<[string, string, number, object]>([
    ["no JSON", "{nope", 400, { code: "invalid_json" }],
    ["nothing", "", 400, { code: "invalid_json" }],
    ["a list", "[]", 400, { code: "invalid_type" }],
    ["null", "null", 400, { code: "invalid_type" }],
    ["a number", "1e999", 400, { code: "invalid_type" }],
    ["a prototype", '{"__proto__": {"messages": []}, "messages": [{"role": "user", "content": "x"}]}', 400, {}],
    ["a hundred thousand brackets", "[".repeat(60_000), 400, { code: "invalid_json" }],
    ["brackets that close", `${"[".repeat(30_000)}${"]".repeat(30_000)}`, 400, { code: "invalid_type" }],
    ["forty thousand empty messages", JSON.stringify({ messages: Array(40_000).fill({}) }), 400, { code: "body_too_complex" }],
    ["half of a character in a stop string", JSON.stringify(hi({ stop: "\ud800" })), 400, { param: "stop" }],
    ["a NUL", JSON.stringify(hi({ model: "demo\0" })), 404, { code: "model_not_found" }],
    ["more than allowed", JSON.stringify(hi({ user: "x".repeat(140_000) })), 413, { code: "body_too_large" }],
  ])("of %s are refused", async (_what, body, status, error) => {
    const response = await post(demo.url + CHAT, body);
    expect(response.status).toBe(status);
    expect(response.headers.get("x-request-id")).toMatch(/^req_/);
    expect(await response.json()).toMatchObject({
      error: { message: expect.any(String), type: "invalid_request_error", ...error },
    });
    await expectAlive();
  });

  it("that never say how long they are end at the limit", async () => {
    const chunk = `1000\r\n${"x".repeat(4096)}\r\n`;
    const head = `POST ${CHAT} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n`;
    const answer = await raw(head + chunk.repeat(100), (text) => text.includes("body_too_large"));
    expect(answer).toMatch(/^HTTP\/1.1 413 /);
    await expectAlive();
  });

  it("that claim to be huge are refused before they come", async () => {
    const head = `POST ${CHAT} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: 99999999999\r\n\r\n`;
    expect(await raw(head, (text) => text.includes("body_too_large"))).toMatch(/^HTTP\/1.1 413 /);
    await expectAlive();
  });

  it("that end too early leave nothing behind", async () => {
    const socket = connectTo(demo.url, () => {
      socket.write(
        `POST ${CHAT} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: 500\r\n\r\n{"mess`,
      );
      setTimeout(() => socket.destroy(), 50);
    });
    await new Promise((resolve) => socket.on("close", resolve));
    await expectAlive();
  });
});

describe("requests", () => {
  it.each<[string, string, RegExp]>([
    ["that are no HTTP", "\x16\x03\x01\x02\x00", /^HTTP\/1.1 400 /],
    ["without a Host", "GET /health HTTP/1.1\r\n\r\n", /^HTTP\/1.1 400 /],
    ["with a Host that is none", "GET /health HTTP/1.1\r\nHost: a b/c\r\nConnection: close\r\n\r\n", /^HTTP\/1.1 40[03] /],
    [
      "with two lengths",
      "POST /tokenize HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
      /^HTTP\/1.1 400 /,
    ],
    [
      "with a length and chunks (smuggling)",
      "POST /tokenize HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
      /^HTTP\/1.1 400 /,
    ],
    [
      "with a header of 20 kB",
      `GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\nX-A: ${"a".repeat(20_000)}\r\n\r\n`,
      /^HTTP\/1.1 431 /,
    ],
    [
      "with ten thousand headers",
      `GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n${Array.from({ length: 10_000 }, (_, i) => `X-${i}: 1\r\n`).join("")}\r\n`,
      /^HTTP\/1.1 431 /,
    ],
    ["to nowhere", "GET /v1/../../etc/passwd HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n", /^HTTP\/1.1 404 /],
    [
      "to nowhere, encoded",
      "GET /%2e%2e/%2e%2e/etc/passwd HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n",
      /^HTTP\/1.1 404 /,
    ],
    [
      "to a path that is no UTF-8",
      "GET /v1/models/%ff%fe HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n",
      /^HTTP\/1.1 40[04] /,
    ],
    [
      "with an address as path",
      "GET http://evil.example/health HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n",
      /^HTTP\/1.1 403 /,
    ],
    ["to tunnel", "CONNECT evil.example:443 HTTP/1.1\r\nHost: evil.example\r\n\r\n", /^(HTTP\/1.1 4|$)/],
    ["of an unknown method", "BREW /coffee HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", /^HTTP\/1.1 400 /],
  ])("%s are refused", async (_what, bytes, expected) => {
    expect(await raw(bytes, (text) => text.includes("\r\n\r\n"))).toMatch(expected);
    await expectAlive();
  });

  it("keep their own id in answer and error, unless it is unfit for a log", async () => {
    const id = async (given: string) =>
      (await fetch(`${demo.url}/nowhere`, { headers: { "x-request-id": given } })).headers.get("x-request-id");
    expect(await id("my-request.7")).toBe("my-request.7");
    expect(await id("x".repeat(200))).toMatch(/^req_/);
    expect(await id("a b{}")).toMatch(/^req_/);
  });
});

describe("many at once", () => {
  it("are refused with 429 and a time to come back, when as many wait as may", async () => {
    const long = () => post(demo.url + CHAT, hi({ max_tokens: 1900, ignore_eos: true, stream: true }));
    const answers = await Promise.all(Array.from({ length: 10 }, long));
    const statuses = answers.map((answer) => answer.status);
    expect(statuses.filter((status) => status === 200)).toHaveLength(6); // 2 run, 4 wait
    const refused = answers.find((answer) => answer.status === 429)!;
    expect(Number(refused.headers.get("retry-after"))).toBeGreaterThanOrEqual(1);
    expect(await refused.json()).toMatchObject({ error: { type: "rate_limit_error", code: "queue_full", param: null } });
    expect(await metric(demo.url, 'exllama_errors_total{code="queue_full"}')).toBe(4);
    await Promise.all(answers.filter((answer) => answer.status === 200).map((answer) => answer.body?.cancel()));
    await until(async () => (await demo.model.status()).scheduler.running === 0);
    await expectAlive();
  });

  it("connections that say nothing do not keep others from being answered", async () => {
    const sockets = Array.from({ length: 300 }, () => connectTo(demo.url, () => {}));
    await Promise.all(sockets.map((socket) => new Promise((resolve) => socket.once("connect", resolve))));
    for (const socket of sockets.slice(100, 200)) socket.write("POST /v1/chat/comp");
    for (const socket of sockets.slice(200)) socket.write(`GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n`);
    await expectAlive();
    for (const socket of sockets) socket.destroy();
  });
});

describe("a reader that takes nothing", () => {
  it("and then leaves takes nothing with it", async () => {
    const unhandled: unknown[] = [];
    const note = (error: unknown) => void unhandled.push(error);
    process.on("unhandledRejection", note);
    const body = JSON.stringify(hi({ max_tokens: 1500, ignore_eos: true, stream: true, n: 2, logprobs: true, top_logprobs: 20 }));
    const socket = connectTo(demo.url, () => {
      socket.pause();
      socket.write(
        `POST ${CHAT} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n${body}`,
      );
    });
    // So much is computed that the connection has been full for long.
    const generated = () => demo.model.status().then(({ counters }) => counters.generatedTokens);
    const before = await generated();
    await until(async () => (await generated()) > before + 500);
    socket.destroy();
    await until(async () => (await demo.model.status()).scheduler.running === 0);
    await expectAlive();
    process.off("unhandledRejection", note);
    expect(unhandled).toEqual([]);
  });

  it("slows only itself: its answer is computed, and others stream on", async () => {
    const body = JSON.stringify(hi({ max_tokens: 600, ignore_eos: true, stream: true, logprobs: true, top_logprobs: 20 }));
    const socket = connectTo(demo.url, () => {
      socket.pause();
      socket.write(
        `POST ${CHAT} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n${body}`,
      );
    });
    await until(async () => (await demo.model.status()).scheduler.running === 1);
    const stream = await demo.client.chat.completions.create({
      ...hi({ max_tokens: 30 }),
      messages: [{ role: "user", content: "x" }],
      model: "demo",
      stream: true,
    });
    for await (const _ of stream);
    await until(async () => (await demo.model.status()).scheduler.running === 0);
    const before = socket.bytesRead;
    let text = "";
    socket.on("data", (data) => {
      text += data.toString();
    });
    socket.resume();
    await until(() => text.includes("data: [DONE]"));
    expect(socket.bytesRead).toBeGreaterThan(before);
    const ids = text
      .split("\n")
      .filter((line) => line.startsWith("data: {"))
      .map((line) => JSON.parse(line.slice(6)));
    expect(ids.flatMap((chunk) => chunk.choices[0]?.logprobs?.content ?? [])).toHaveLength(600);
    socket.destroy();
  });
});
