// GET / and its assets. The page may load from and speak to this server only, run no inline
// script, and stand in no other site's frame.

import { Hono } from "hono";
import { type PageFile, readPage } from "./files.js";

const POLICY = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self'",
  "img-src 'self' data:",
  "font-src 'self'",
  "connect-src 'self'",
  "manifest-src 'self'",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
].join("; ");

const HEADERS = {
  "content-security-policy": POLICY,
  "x-content-type-options": "nosniff",
  "referrer-policy": "no-referrer",
  "cross-origin-opener-policy": "same-origin",
  "cross-origin-resource-policy": "same-origin",
};

const NOT_BUILT = "The page is not built: run `npm run build` in the checkout. The API works all the same.\n";

/** Mount at `/`, after every other route: what is not a file of the page falls through. */
export function pageRoutes(files: ReadonlyMap<string, PageFile> = readPage()): Hono {
  const routes = new Hono();
  if (files.size === 0) routes.get("/", (c) => c.text(NOT_BUILT, 503));
  for (const [path, file] of files)
    routes.get(path, (c) => {
      const headers = {
        ...HEADERS,
        "content-type": file.type,
        etag: file.etag,
        "cache-control": file.immutable ? "public, max-age=31536000, immutable" : "no-cache",
      };
      if (c.req.header("if-none-match") === file.etag) return c.body(null, 304, headers);
      return c.body(file.body, 200, headers);
    });
  return routes;
}
