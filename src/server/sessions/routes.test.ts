import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Hono } from "hono";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { sessionContent } from "../../../test/support/session-content.js";
import type { AppEnv } from "../app-env.js";
import { errorReply } from "../error-response.js";
import { LIMITS, type SessionDocument } from "./document.js";
import { sessionRoutes } from "./routes.js";
import { SessionStore } from "./store.js";

let folder: string;
let app: Hono<AppEnv>;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "sessions-"));
  app = new Hono<AppEnv>().route("/", sessionRoutes(await SessionStore.open(folder)));
  app.onError((error, c) => {
    const { status, body } = errorReply(error);
    return c.json(body, status as 400);
  });
});
afterEach(() => rm(folder, { recursive: true, force: true }));

const JSON_TYPE = { "content-type": "application/json" };

async function create(): Promise<SessionDocument> {
  const body = JSON.stringify(sessionContent());
  const response = await app.request("/", { method: "POST", headers: JSON_TYPE, body });
  expect(response.status).toBe(201);
  return (await response.json()) as SessionDocument;
}

describe("sessionRoutes", () => {
  it("creates, lists, reads, writes, deletes and restores", async () => {
    const { id } = await create();
    expect(await (await app.request("/?q=fox")).json()).toMatchObject({ sessions: [{ id, title: "Foxes" }], problems: [] });
    const put = await app.request(`/${id}`, {
      method: "PUT",
      headers: { ...JSON_TYPE, "if-match": '"1"' },
      body: JSON.stringify(sessionContent({ title: "Wolves" })),
    });
    expect(await put.json()).toMatchObject({ id, revision: 2 });
    expect(await (await app.request(`/${id}`)).json()).toMatchObject({ title: "Wolves", revision: 2 });
    expect((await app.request(`/${id}`, { method: "DELETE" })).status).toBe(204);
    expect((await app.request(`/${id}`)).status).toBe(404);
    expect((await app.request(`/${id}/restore`, { method: "POST" })).status).toBe(200);
    expect((await app.request(`/${id}`)).status).toBe(200);
  });

  it("takes an exported session as a new one", async () => {
    const exported = await create();
    const response = await app.request("/", { method: "POST", headers: JSON_TYPE, body: JSON.stringify(exported) });
    const imported = (await response.json()) as SessionDocument;
    expect(imported).toMatchObject({ title: exported.title, blocks: exported.blocks, revision: 1 });
    expect(imported.id).not.toBe(exported.id);
  });

  it("answers a late write with 409 and what is there now", async () => {
    const { id } = await create();
    const put = (title: string) =>
      app.request(`/${id}`, {
        method: "PUT",
        headers: { ...JSON_TYPE, "if-match": '"1"' },
        body: JSON.stringify(sessionContent({ title })),
      });
    expect((await put("first")).status).toBe(200);
    const late = await put("second");
    expect(late.status).toBe(409);
    expect(await late.json()).toMatchObject({
      error: { code: "SESSION_CONFLICT", type: "invalid_request_error", param: null },
      current: { id, title: "first", revision: 2 },
    });
  });

  it.each<[string, number, RequestInit]>([
    ["a form's body", 415, { method: "POST", headers: { "content-type": "text/plain" }, body: "{}" }],
    ["broken JSON", 400, { method: "POST", headers: JSON_TYPE, body: "{" }],
    ["no session", 400, { method: "POST", headers: JSON_TYPE, body: "[]" }],
    ["too large a body", 413, { method: "POST", headers: JSON_TYPE, body: "x".repeat(LIMITS.bytes + 1) }],
  ])("refuses %s with %i", async (_, status, init) => {
    const response = await app.request("/", init);
    expect(response.status).toBe(status);
    expect(await response.json()).toMatchObject({ error: { type: "invalid_request_error", message: expect.any(String) } });
  });

  it("refuses a write without a revision, and knows no ids that are paths", async () => {
    const { id } = await create();
    const body = JSON.stringify(sessionContent());
    expect((await app.request(`/${id}`, { method: "PUT", headers: JSON_TYPE, body })).status).toBe(428);
    for (const path of ["/..%2f..%2fetc%2fpasswd", "/%00", `/${"a".repeat(4000)}`, "/deleted"])
      expect((await app.request(path)).status).toBe(404);
  });
});
