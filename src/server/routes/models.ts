// GET /v1/models and /v1/models/:id: the one model that is loaded, under each of its names, alone and
// with each of its adapters. GET /v1/adapters: those by themselves.

import { Hono } from "hono";
import type { RouteContext } from "../app.js";
import type { AppEnv } from "../app-env.js";
import { UnknownModelError } from "../errors.js";
import { servedNames } from "../served-model.js";

export function modelRoutes({ models }: RouteContext): Hono<AppEnv> {
  const entry = (id: string) => {
    const { info, plan } = models.current();
    const { architecture, parameters, quantization, backend, vocabSize } = info;
    const own = { context: plan.context, vocab_size: vocabSize, architecture, parameters, quantization, backend };
    const base = models.names.includes(id) ? {} : { parent: models.names[0] };
    return { id, object: "model", created: models.created, owned_by: "exllama-ts", ...base, ...own };
  };
  return new Hono<AppEnv>()
    .get("/v1/models", (context) => context.json({ object: "list", data: servedNames(models).map(entry) }))
    .get("/v1/adapters", (context) => {
      const { adapters } = models.current().info;
      return context.json({ object: "list", data: adapters.map(({ name, rank }) => ({ id: name, object: "adapter", rank })) });
    })
    .get("/v1/models/:id{.+}", (context) => {
      const id = context.req.param("id");
      const names = servedNames(models);
      if (!names.includes(id)) throw new UnknownModelError(id, names);
      return context.json(entry(id));
    });
}
