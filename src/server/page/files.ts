// The built page in memory: a request is looked up in a table made at start, so that no path
// from outside ever reaches the disk.

import { createHash } from "node:crypto";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { extname, join } from "node:path";
import { distFile } from "../../paths.js";

const TYPES: Readonly<Record<string, string>> = {
  ".html": "text/html; charset=utf-8",
  ".js": "text/javascript; charset=utf-8",
  ".css": "text/css; charset=utf-8",
  ".svg": "image/svg+xml",
  ".woff2": "font/woff2",
  ".webmanifest": "application/manifest+json",
};

export interface PageFile {
  readonly body: Uint8Array<ArrayBuffer>;
  readonly type: string;
  readonly etag: string;
  /** Its name changes with its contents. */
  readonly immutable: boolean;
}

/**
 * @param folder what `npm run build:page` made
 * @returns files by their path on the server, `/` among them; empty where the page is not built
 */
export function readPage(folder: string = distFile("page")): ReadonlyMap<string, PageFile> {
  const files = new Map<string, PageFile>();
  if (!existsSync(join(folder, "index.html"))) return files;
  for (const name of readdirSync(folder, { recursive: true, encoding: "utf8" })) {
    const type = TYPES[extname(name)];
    if (type === undefined) continue;
    const body = new Uint8Array(readFileSync(join(folder, name)));
    const path = `/${name.replaceAll("\\", "/")}`;
    const etag = `"${createHash("sha256").update(body).digest("base64url").slice(0, 22)}"`;
    files.set(path === "/index.html" ? "/" : path, { body, type, etag, immutable: path.startsWith("/assets/") });
  }
  return files;
}
