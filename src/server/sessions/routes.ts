// /api/sessions: what the page keeps its conversations with. Only JSON is taken, so that a
// form on another site cannot write here; conflicts answer with what is there now.

import { type Context, Hono } from "hono";
import { z } from "zod";
import { ExllamaError } from "../../errors.js";
import type { AppEnv } from "../app-env.js";
import { readJson } from "../body.js";
import { LIMITS } from "./document.js";
import { SessionConflictError } from "./errors.js";
import type { SessionStore } from "./store.js";

const STATUS: Readonly<Record<string, 400 | 404 | 409 | 413 | 428 | 507>> = {
  SESSION_INVALID: 400,
  SESSION_REVISION: 428,
  SESSION_NOT_FOUND: 404,
  SESSION_CONFLICT: 409,
  SESSION_TOO_LARGE: 413,
  SESSION_LIMIT: 507,
};

/** Mount at `/api/sessions`. */
export function sessionRoutes(store: SessionStore): Hono<AppEnv> {
  const routes = new Hono<AppEnv>();
  routes.get("/", async (c) => c.json(await store.list((c.req.query("q") ?? "").slice(0, 500))));
  routes.post("/", async (c) => c.json(await store.create(await jsonBody(c)), 201));
  routes.get("/:id", async (c) => c.json(await store.read(c.req.param("id"))));
  routes.put("/:id", async (c) => {
    const { id, revision, updated } = await store.write(c.req.param("id"), expectedRevision(c), await jsonBody(c));
    return c.json({ id, revision, updated });
  });
  routes.delete("/:id", async (c) => {
    await store.remove(c.req.param("id"));
    return c.body(null, 204);
  });
  routes.post("/:id/restore", async (c) => c.json(await store.restore(c.req.param("id"))));
  routes.onError((error, c) => {
    if (!(error instanceof ExllamaError)) throw error;
    const status = STATUS[error.code];
    if (status === undefined) throw error;
    const current = error instanceof SessionConflictError ? { current: error.current } : {};
    return c.json({ ...errorBody(error.code, error.message, error.hint), ...current }, status);
  });
  return routes;
}

/** `If-Match: "7"`. */
function expectedRevision(c: Context<AppEnv>): number {
  const match = /^"?(\d{1,15})"?$/.exec(c.req.header("if-match") ?? "");
  if (match) return Number(match[1]);
  throw new ExllamaError("SESSION_REVISION", "the write does not say which revision it was made from", {
    hint: 'Send If-Match: "REVISION".',
  });
}

/** What it must be, the store says. */
function jsonBody(c: Context<AppEnv>): Promise<unknown> {
  return readJson(c, LIMITS.bytes, z.unknown());
}

/** The shape of every error of this server. */
function errorBody(code: string, message: string, hint?: string) {
  return { error: { message: hint ? `${message}. ${hint}` : message, type: "invalid_request_error", param: null, code } };
}
