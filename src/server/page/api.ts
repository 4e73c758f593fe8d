// What the page asks for besides the public API: the model and everything that its memory plan
// was made from, once; and what the server is doing, again and again.

import { Hono } from "hono";
import type { ModelInfo } from "../../engine/model.js";
import type { Plan } from "../../memory/plan.js";
import type { PlanRequestData } from "../../memory/plan-request.js";
import type { ModelSource } from "../model-source.js";
import type { LiveFigures, LiveSample } from "./live-figures.js";

/** Answer of GET /api/page. */
export interface PageData {
  /** Name of the model in requests. */
  readonly model: string;
  readonly info: ModelInfo;
  readonly plan: Plan;
  readonly planning: PlanRequestData;
  /** The command line that serves this model, up to what the plan depends on: `exllama serve --model …`. */
  readonly command: string;
}

/** Answer of GET /api/status. */
export interface PageStatus {
  readonly now: LiveSample;
  /** Samples after `?since=` (ms since 1970), oldest first, `now` the last. */
  readonly samples: readonly LiveSample[];
}

export interface PageApiOptions {
  readonly models: ModelSource;
  readonly live: LiveFigures;
  readonly command: string;
}

/** Mount at `/api`. */
export function pageApi({ models, live, command }: PageApiOptions): Hono {
  const routes = new Hono();
  routes.get("/page", (c) => {
    const { info, plan, planning } = models.current();
    const data: PageData = { model: models.names[0], info, plan, planning, command };
    return c.json(data);
  });
  routes.get("/status", async (c) => {
    const now = await live.sample();
    const status: PageStatus = { now, samples: live.since(Number(c.req.query("since")) || 0) };
    return c.json(status);
  });
  return routes;
}
