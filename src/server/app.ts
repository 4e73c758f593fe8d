// The server as one function from requests to responses. `app.ts` only puts the parts together:
// what every request passes through, then the routes. It knows no socket, so tests call it with
// `app.request(…)`; `listen.ts` puts it on a port.

import { Hono } from "hono";
import { cors } from "hono/cors";
import type { ContentfulStatusCode } from "hono/utils/http-status";
import type { Logger } from "pino";
import { type Access, KeyRing, type Keys } from "./access/keys.js";
import { sameSite } from "./access/same-site.js";
import type { Answering } from "./answering.js";
import type { AppEnv } from "./app-env.js";
import { errorReply } from "./error-response.js";
import { UnknownRouteError } from "./errors.js";
import type { ServerMetrics } from "./metrics.js";
import type { ModelSource } from "./model-source.js";
import { requestLog } from "./request-log.js";
import { chatRoutes } from "./routes/chat-completions.js";
import { completionRoutes } from "./routes/completions.js";
import { embeddingRoutes } from "./routes/embeddings.js";
import { healthRoutes } from "./routes/health.js";
import { metricsRoutes } from "./routes/metrics.js";
import { modelRoutes } from "./routes/models.js";
import { planRoutes } from "./routes/plan.js";
import { responseRoutes } from "./routes/responses.js";
import { tokenRoutes } from "./routes/tokens.js";

export interface AppOptions {
  readonly models: ModelSource;
  readonly answering: Answering;
  readonly metrics: ServerMetrics;
  readonly log: Logger;
  readonly keys: Keys;
  /** Listens on a loopback address only. */
  readonly loopback: boolean;
  /** Origins of pages that may use the server from a browser; `*` = all. */
  readonly corsOrigins: readonly string[];
  /** Most bytes of a request's body. */
  readonly maxBody: number;
  /** Further routes, such as the web page's; mounted in order, behind the server's own. */
  readonly mounts?: readonly Mount[];
}

/** Routes of another room, and who may use them. */
export interface Mount {
  readonly path: string;
  readonly access: Access;
  // biome-ignore lint/suspicious/noExplicitAny: hono's own way to take an app whatever its environment
  readonly routes: Hono<any>;
}

/** What each group of routes gets. */
export type RouteContext = Pick<AppOptions, "models" | "answering" | "metrics" | "maxBody">;

export function createApp(options: AppOptions): Hono<AppEnv> {
  const app = new Hono<AppEnv>();
  const keys = new KeyRing(options.keys);
  const hasKeys = options.keys.api.length > 0;
  app.onError((error, context) => {
    const { status, body, headers } = errorReply(error);
    options.metrics.error(body.error.code ?? "none");
    if (status === 500) context.get("log").error({ err: error }, "a request failed");
    return context.json(body, status as ContentfulStatusCode, { ...headers, "x-request-id": context.get("requestId") });
  });
  app.notFound(({ req }) => {
    throw new UnknownRouteError(req.method, req.path);
  });

  app.use(requestLog(options.log));
  app.use(
    sameSite({
      localOnly: options.loopback && !hasKeys,
      sameOrigin: !hasKeys,
      allowedOrigins: options.corsOrigins,
    }),
  );
  if (options.corsOrigins.length > 0) app.use(crossOrigin(options.corsOrigins));

  const own: Mount[] = [
    { path: "/", access: "open", routes: healthRoutes(options) },
    { path: "/", access: "key", routes: modelRoutes(options) },
    { path: "/", access: "key", routes: chatRoutes(options) },
    { path: "/", access: "key", routes: completionRoutes(options) },
    { path: "/", access: "key", routes: responseRoutes(options) },
    { path: "/", access: "key", routes: embeddingRoutes(options) },
    { path: "/", access: "key", routes: tokenRoutes(options) },
    { path: "/", access: "admin", routes: metricsRoutes(options) },
    { path: "/", access: "admin", routes: planRoutes(options) },
  ];
  for (const mount of [...own, ...(options.mounts ?? [])]) guarded(app, keys, mount);
  return app;
}

/** A mount below a path is closed whole; at the root each of its routes is, as others have theirs beside them. */
function guarded(app: Hono<AppEnv>, keys: KeyRing, { path, access, routes }: Mount): void {
  if (access !== "open") {
    if (path !== "/") app.use(`${path}/*`, keys.guard(access));
    else for (const route of routes.routes) app.on(route.method, route.path, keys.guard(access));
  }
  app.route(path, routes);
}

function crossOrigin(origins: readonly string[]) {
  return cors({
    origin: origins.includes("*") ? "*" : [...origins],
    allowMethods: ["GET", "POST", "PUT", "PATCH", "DELETE"],
    exposeHeaders: ["x-request-id", "retry-after"],
    maxAge: 600,
  });
}
