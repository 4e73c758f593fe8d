// Who may do what. API keys open the OpenAI routes; admin keys open everything, and where there
// is one, what shows or changes the server itself is theirs alone. Without keys everything is
// open, which is why a server without keys listens on this computer only.

import { createHash, timingSafeEqual } from "node:crypto";
import type { MiddlewareHandler } from "hono";
import type { AppEnv } from "../app-env.js";
import { ForbiddenError, KeyError } from "../errors.js";

export type Access = "open" | "key" | "admin";

export interface Keys {
  readonly api: readonly string[];
  readonly admin: readonly string[];
}

export class KeyRing {
  readonly #api: readonly Buffer[];
  readonly #admin: readonly Buffer[];

  constructor(keys: Keys) {
    this.#api = keys.api.map(digest);
    this.#admin = keys.admin.map(digest);
  }

  /** Lets requests pass that may go where this access is wanted. @throws {KeyError | ForbiddenError} */
  guard(access: Access): MiddlewareHandler<AppEnv> {
    return async (context, next) => {
      this.check(access, context.req.header("authorization"));
      await next();
    };
  }

  /** @param authorization the header, if there is one */
  check(access: Access, authorization: string | undefined): void {
    // With an admin key and no API key, only what is the admin's is closed.
    if (access === "open" || (this.#api.length === 0 && (access === "key" || this.#admin.length === 0))) return;
    const key = /^Bearer +(\S+) *$/i.exec(authorization ?? "")?.[1];
    const hash = digest(key ?? "");
    // Both lists are gone through whole, whatever is found.
    const isAdmin = isAmong(this.#admin, hash);
    const isApi = isAmong(this.#api, hash);
    if (key === undefined || !(isAdmin || isApi)) throw new KeyError(key !== undefined);
    if (access === "admin" && this.#admin.length > 0 && !isAdmin)
      throw new ForbiddenError("this key does not open what is the admin's", "Use a key given with --admin-key.");
  }
}

function digest(key: string): Buffer {
  return createHash("sha256").update(key).digest();
}

/** Takes the same time wherever the key is and whatever it shares with one. */
function isAmong(hashes: readonly Buffer[], hash: Buffer): boolean {
  let found = false;
  for (const known of hashes) found = timingSafeEqual(known, hash) || found;
  return found;
}
