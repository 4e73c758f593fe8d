// What the routes of the server find in their context.

import type { HttpBindings } from "@hono/node-server";
import type { Logger } from "pino";

export interface AppEnv {
  /** Node's own request and response; absent where the app is called without a socket (`app.request`). */
  Bindings: Partial<HttpBindings>;
  Variables: {
    /** Names this request in headers and in the log. */
    requestId: string;
    /** Its lines carry the request's id. Never prompts, never answers. */
    log: Logger;
    /** What the request's last log line says besides time and status: tokens, the model's name. */
    facts: Record<string, unknown>;
  };
}
