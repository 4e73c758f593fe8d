// Who may use a server, and from where.

import { mkdtempSync, rmSync } from "node:fs";
import { request } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Model } from "../../src/index.js";
import { type DemoServer, loadDemo, post, serveDemo } from "./demo-server.js";

let lent: Model;
beforeAll(async () => {
  lent = await loadDemo();
});
afterAll(() => lent.dispose());

const CHAT = { messages: [{ role: "user", content: "Hi" }], max_tokens: 1 };

/** A request as a browser would send it: fetch() lets nobody set Host or Origin. */
function ask(url: string, path: string, headers: Record<string, string>, body?: unknown): Promise<number> {
  return new Promise((resolve, reject) => {
    const method = body === undefined ? "GET" : "POST";
    const sent = request(`${url}${path}`, { method, headers: { "content-type": "application/json", ...headers } }, (response) => {
      response.resume();
      resolve(response.statusCode ?? 0);
    });
    sent.on("error", reject);
    sent.end(body === undefined ? undefined : JSON.stringify(body));
  });
}

describe("a server without keys", () => {
  let demo: DemoServer;
  beforeAll(async () => {
    demo = await serveDemo({ lent, corsOrigins: ["https://friend.example"] });
  });
  afterAll(() => demo.close());

  it.each<[string, Record<string, string>, number]>([
    ["by its address", {}, 200],
    ["as localhost", { host: "localhost:5005" }, 200],
    ["as a subdomain of localhost", { host: "chat.localhost" }, 200],
    ["as ::1", { host: "[::1]:5005" }, 200],
    ["under another name (DNS rebinding)", { host: "evil.example" }, 403],
    ["under a name that begins well", { host: "localhost.evil.example" }, 403],
    ["under a name that looks like an address", { host: "127.0.0.1.evil.example" }, 403],
    ["for its own page", { host: "localhost:5005", origin: "http://localhost:5005" }, 200],
    ["for a page of another site", { origin: "https://evil.example" }, 403],
    ["for a page of another port", { host: "localhost:5005", origin: "http://localhost:8080" }, 403],
    ["for a page from nowhere", { origin: "null" }, 403],
    ["for a form of another site", { "sec-fetch-site": "cross-site" }, 403],
    ["for a page that --cors names", { origin: "https://friend.example" }, 200],
  ])("answers %s as it should", async (_what, headers, status) => {
    expect(await ask(demo.url, "/v1/chat/completions", headers, CHAT)).toBe(status);
  });

  it("refuses other names for everything, figures and tokenizer included", async () => {
    for (const path of ["/metrics", "/plan", "/v1/models", "/health"])
      expect(await ask(demo.url, path, { host: "evil.example" })).toBe(403);
  });

  it("takes JSON only, which a form cannot send", async () => {
    const sent = await fetch(`${demo.url}/v1/chat/completions`, { method: "POST", body: JSON.stringify(CHAT) });
    expect(sent.status).toBe(415);
    expect(await sent.json()).toMatchObject({ error: { type: "invalid_request_error", code: "content_type" } });
  });

  it("answers the preflight of a page that --cors names, and of no other", async () => {
    const preflight = (origin: string) =>
      fetch(`${demo.url}/v1/chat/completions`, {
        method: "OPTIONS",
        headers: { origin, "access-control-request-method": "POST", "access-control-request-headers": "content-type" },
      });
    const friend = await preflight("https://friend.example");
    expect(friend.status).toBe(204);
    expect(friend.headers.get("access-control-allow-origin")).toBe("https://friend.example");
    const other = await preflight("https://evil.example");
    expect(other.headers.get("access-control-allow-origin")).toBeNull();
  });
});

describe("a server with keys", () => {
  let demo: DemoServer;
  beforeAll(async () => {
    demo = await serveDemo({ lent, keys: { api: ["key-of-anna", "key-of-bert"], admin: ["key-of-admin"] }, corsOrigins: ["*"] });
  });
  afterAll(() => demo.close());
  const bearer = (key: string) => ({ authorization: `Bearer ${key}` });

  it.each<[string, string, Record<string, string>, number]>([
    ["/v1/models", "no key", {}, 401],
    ["/v1/models", "a wrong key", bearer("key-of-carl"), 401],
    ["/v1/models", "the beginning of a key", bearer("key-of-ann"), 401],
    ["/v1/models", "another scheme", { authorization: "Basic key-of-anna" }, 401],
    ["/v1/models", "an API key", bearer("key-of-anna"), 200],
    ["/v1/models", "another API key", bearer("key-of-bert"), 200],
    ["/v1/models", "the admin's key", bearer("key-of-admin"), 200],
    ["/metrics", "no key", {}, 401],
    ["/metrics", "an API key", bearer("key-of-anna"), 403],
    ["/metrics", "the admin's key", bearer("key-of-admin"), 200],
    ["/plan", "an API key", bearer("key-of-anna"), 403],
    ["/health", "no key", {}, 200],
  ])("%s with %s", async (path, _what, headers, status) => {
    const response = await fetch(demo.url + path, { headers });
    expect(response.status).toBe(status);
    if (status >= 400) expect(await response.json()).toMatchObject({ error: { type: "invalid_request_error" } });
  });

  it.each(["/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/tokenize", "/detokenize"])(
    "%s takes no body without a key",
    async (path) => {
      expect((await post(demo.url + path, "not even JSON")).status).toBe(401);
      expect((await post(demo.url + path, "not even JSON", bearer("key-of-anna"))).status).toBe(400);
    },
  );

  it("lets allowed pages read what went wrong", async () => {
    const response = await fetch(`${demo.url}/v1/models`, { headers: { "x-request-id": "mine" } });
    expect(response.status).toBe(401);
    expect(response.headers.get("access-control-allow-origin")).toBe("*");
    expect(response.headers.get("access-control-expose-headers")).toContain("x-request-id");
    expect(response.headers.get("x-request-id")).toBe("mine");
  });

  it("is used by the client with its key, under any name, by any page", async () => {
    const list = await demo.client.models.list();
    expect(list.data).toHaveLength(1);
    const headers = { host: "models.example", origin: "https://page.example", ...bearer("key-of-bert") };
    expect(await ask(demo.url, "/v1/chat/completions", headers, CHAT)).toBe(200);
  });
});

describe("a server with an admin key alone", () => {
  it("closes what is the admin's", async () => {
    const demo = await serveDemo({ lent, keys: { api: [], admin: ["key-of-admin"] } });
    try {
      expect((await fetch(`${demo.url}/v1/models`)).status).toBe(200);
      expect((await fetch(`${demo.url}/plan`)).status).toBe(401);
      expect(await ask(demo.url, "/v1/models", { host: "evil.example" })).toBe(403);
    } finally {
      await demo.close();
    }
  });
});

describe("what the page keeps and shows", () => {
  const folder = mkdtempSync(join(tmpdir(), "exllama-access-"));
  afterAll(() => rmSync(folder, { recursive: true }));

  it.each<[string, { api: string[]; admin: string[] }, string | null, number]>([
    ["open without keys", { api: [], admin: [] }, null, 200],
    ["closed without the API key", { api: ["key-of-anna"], admin: [] }, null, 401],
    ["open with the API key", { api: ["key-of-anna"], admin: [] }, "key-of-anna", 200],
    ["closed with the API key where there is an admin's", { api: ["key-of-anna"], admin: ["key-of-admin"] }, "key-of-anna", 403],
    ["open with the admin's key", { api: ["key-of-anna"], admin: ["key-of-admin"] }, "key-of-admin", 200],
  ])("is %s", async (_what, keys, key, status) => {
    const demo = await serveDemo({ lent, keys, sessions: folder });
    try {
      const headers: Record<string, string> = key === null ? {} : { authorization: `Bearer ${key}` };
      for (const path of ["/api/page", "/api/status", "/api/sessions", "/api/sessions/"]) {
        const response = await fetch(demo.url + path, { headers });
        // `/api/sessions/` is either the list or nothing, but never more open than the list.
        expect([status, ...(path.endsWith("/") && status === 200 ? [404] : [])], path).toContain(response.status);
      }
      const page = await fetch(demo.url);
      expect([200, 503]).toContain(page.status); // 503: not built
      const outside = await fetch(`${demo.url}/api/sessions/..%2f..%2fetc%2fpasswd`, { headers });
      expect(outside.status).toBeGreaterThanOrEqual(400);
    } finally {
      await demo.close();
    }
  });
});
