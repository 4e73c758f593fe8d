// A checkpoint's folder over HTTP with range requests, as a hub serves it.

import { createReadStream, existsSync, statSync } from "node:fs";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";

export interface ServedFolder {
  /** Ends with a slash. */
  readonly address: string;
  /** How far into a weights' file anybody read; −1: not at all. */
  lastWeightFileByte(): number;
  close(): Server;
}

/** Serves a folder on a free port of this machine. */
export async function serveFolder(folder: string): Promise<ServedFolder> {
  let last = -1;
  const server = createServer((request, response) => {
    const file = join(folder, decodeURIComponent(request.url!.slice(1)));
    if (!existsSync(file) || !statSync(file).isFile()) return void response.writeHead(404).end();
    const size = statSync(file).size;
    const range = /^bytes=(\d+)-(\d+)$/.exec(request.headers.range ?? "");
    const start = range ? Number(range[1]) : 0;
    const end = range ? Math.min(Number(range[2]), size - 1) : size - 1;
    if (file.endsWith(".safetensors")) last = Math.max(last, end);
    response.writeHead(range ? 206 : 200, {
      "content-length": end - start + 1,
      ...(range ? { "content-range": `bytes ${start}-${end}/${size}` } : {}),
    });
    createReadStream(file, { start, end }).pipe(response);
  });
  await new Promise<void>((listening) => server.listen(0, "127.0.0.1", listening));
  const address = `http://127.0.0.1:${(server.address() as AddressInfo).port}/`;
  return { address, lastWeightFileByte: () => last, close: () => server.close() };
}
