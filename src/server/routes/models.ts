// GET /v1/models and /v1/models/:id: the one model that is loaded, under each of its names.

import { Hono } from "hono";
import type { RouteContext } from "../app.js";
import type { AppEnv } from "../app-env.js";
import { UnknownModelError } from "../errors.js";
import type { ModelSource } from "../model-source.js";

export function modelRoutes({ models }: RouteContext): Hono<AppEnv> {
  const entry = (id: string) => {
    const { info, plan } = models.current();
    const { architecture, parameters, quantization, backend } = info;
    const own = { context: plan.context, vocab_size: info.vocabSize, architecture, parameters, quantization, backend };
    return { id, object: "model", created: models.created, owned_by: "exllama-ts", ...own };
  };
  return new Hono<AppEnv>()
    .get("/v1/models", (context) => context.json({ object: "list", data: models.names.map(entry) }))
    .get("/v1/models/:id{.+}", (context) => context.json(entry(servedName(models, context.req.param("id")))));
}

/**
 * The name under which a request is answered.
 *
 * @param asked none: the model's first name
 * @throws {UnknownModelError}
 */
export function servedName(models: ModelSource, asked: string | null | undefined): string {
  if (asked === undefined || asked === null) return models.names[0];
  if (!models.names.includes(asked)) throw new UnknownModelError(asked, models.names);
  return asked;
}
