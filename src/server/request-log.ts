// Every request gets an id (the client's own, if it is fit for a log) and one line in the log
// when it is over: method, route, status, time, tokens. Never what was asked or answered.

import { randomUUID } from "node:crypto";
import type { MiddlewareHandler } from "hono";
import type { Logger } from "pino";
import type { AppEnv } from "./app-env.js";

const FIT_FOR_A_LOG = /^[\w.:-]{1,128}$/;

export function requestLog(log: Logger): MiddlewareHandler<AppEnv> {
  return async (context, next) => {
    const begun = performance.now();
    const given = context.req.header("x-request-id");
    const requestId = given !== undefined && FIT_FOR_A_LOG.test(given) ? given : `req_${randomUUID().replaceAll("-", "")}`;
    context.set("requestId", requestId);
    context.set("log", log.child({ requestId }));
    context.set("facts", {});
    context.header("x-request-id", requestId);
    await next();
    // Where there is a socket, a streamed answer is over when it is closed, long after its headers.
    const { outgoing } = context.env ?? {};
    const line = () => {
      const ms = Math.round(performance.now() - begun);
      const gone = outgoing !== undefined && !outgoing.writableFinished;
      const { status } = context.res;
      const facts = {
        method: context.req.method,
        path: context.req.path,
        status,
        ms,
        ...(gone ? { gone } : {}),
        ...context.get("facts"),
      };
      context.get("log")[status >= 500 ? "warn" : "info"](facts, "request");
    };
    if (outgoing && !outgoing.closed) outgoing.once("close", line);
    else line();
  };
}
