// GET /metrics: figures for Prometheus.

import { Hono } from "hono";
import type { RouteContext } from "../app.js";
import type { AppEnv } from "../app-env.js";
import { ApiError } from "../errors.js";

export function metricsRoutes({ models, metrics }: RouteContext): Hono<AppEnv> {
  return new Hono<AppEnv>().get("/metrics", async (context) => {
    const model = modelOrNull(models);
    const text = await metrics.text(model).catch((error: unknown) => {
      // An engine that died a moment ago: the server's own figures are still worth reading.
      if (model) models.failed(model, error);
      return metrics.text(null);
    });
    return context.body(text, 200, { "content-type": metrics.registry.contentType });
  });
}

function modelOrNull(models: RouteContext["models"]) {
  try {
    return models.current();
  } catch (error) {
    if (error instanceof ApiError) return null;
    throw error;
  }
}
