// A server without keys trusts whoever reaches it, and a browser on this computer reaches it on
// behalf of any page. Two checks keep pages out: the Host header must name this computer (a page
// whose own name was made to point here, DNS rebinding, still carries its own name), and a page
// of another origin is refused unless --cors allows it. With keys neither is needed: a page does
// not know them.

import type { MiddlewareHandler } from "hono";
import type { AppEnv } from "../app-env.js";
import { ForbiddenError } from "../errors.js";

export interface SiteRules {
  /** Check that Host names this computer: the server listens on a loopback address and has no keys. */
  readonly localOnly: boolean;
  /** Check Origin: the server has no keys. */
  readonly sameOrigin: boolean;
  /** Origins that may, besides the server's own; `*` = all. */
  readonly allowedOrigins: readonly string[];
}

/** @throws {ForbiddenError} */
export function sameSite(rules: SiteRules): MiddlewareHandler<AppEnv> {
  return async ({ req }, next) => {
    const host = req.header("host");
    if (rules.localOnly && !isLocal(host))
      throw new ForbiddenError(
        `this server answers on this computer only, and not as ${JSON.stringify(host ?? "")}`,
        "Use http://127.0.0.1 or http://localhost; to be reached by other names it needs --api-key.",
      );
    if (rules.sameOrigin) checkOrigin(req.header("origin"), req.header("sec-fetch-site"), host, req.method, rules.allowedOrigins);
    await next();
  };
}

function checkOrigin(
  origin: string | undefined,
  fetchSite: string | undefined,
  host: string | undefined,
  method: string,
  allowed: readonly string[],
): void {
  if (allowed.includes("*")) return;
  if (origin !== undefined) {
    if (allowed.includes(origin) || origin === `http://${host}` || origin === `https://${host}`) return;
  } else if (fetchSite !== "cross-site" || method === "GET" || method === "HEAD") return;
  throw new ForbiddenError(
    `pages of ${origin ?? "other sites"} may not use this server`,
    "Allow their origin with --cors, or protect the server with --api-key and --cors.",
  );
}

/** `localhost`, its subdomains, 127.x.x.x and ::1, with any port. */
export function isLocal(host: string | undefined): boolean {
  const name = (host ?? "").toLowerCase().replace(/:\d+$/, "");
  return name === "localhost" || name.endsWith(".localhost") || name === "[::1]" || /^127\.\d{1,3}\.\d{1,3}\.\d{1,3}$/.test(name);
}
