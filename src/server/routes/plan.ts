// GET /plan: the memory plan that the loaded model lives in, as `exllama plan --json` prints it.

import { Hono } from "hono";
import { planToJson } from "../../memory/plan-json.js";
import type { RouteContext } from "../app.js";
import type { AppEnv } from "../app-env.js";

export function planRoutes({ models }: RouteContext): Hono<AppEnv> {
  return new Hono<AppEnv>().get("/plan", (context) => context.json(planToJson(models.current().plan)));
}
