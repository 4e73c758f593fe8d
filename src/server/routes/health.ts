// GET /health: whether the server can answer. For load balancers: no key, no figures.

import { Hono } from "hono";
import type { RouteContext } from "../app.js";
import type { AppEnv } from "../app-env.js";

export function healthRoutes({ models }: RouteContext): Hono<AppEnv> {
  return new Hono<AppEnv>().get("/health", (context) => {
    models.current(); // 503 while there is no model
    return context.json({ status: "ok" });
  });
}
