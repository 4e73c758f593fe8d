// The app on a port: Node's HTTP server with limits on everything that a client could take its time
// with (headers, bodies, idle connections), and an orderly end.

import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { getRequestListener } from "@hono/node-server";
import type { Hono } from "hono";
import { UsageError } from "../errors.js";
import type { AppEnv } from "./app-env.js";
import { errorReply } from "./error-response.js";
import { InvalidRequestError } from "./errors.js";

export interface ListenOptions {
  readonly host: string;
  /** 0 = any that is free. */
  readonly port: number;
  /** Connections at once; further ones are closed. */
  readonly maxConnections: number;
  /** How long a client may take for its headers, and for its whole request, ms. */
  readonly patience?: { readonly headersMs: number; readonly requestMs: number };
}

const PATIENCE = { headersMs: 15_000, requestMs: 120_000 };
/** An idle connection is kept so long for its next request, ms. Longer than most clients keep theirs. */
const KEEP_ALIVE_MS = 75_000;
const MOST_HEADER_BYTES = 16 * 1024;
const MOST_HEADERS = 100;
/** While closing: how soon a connection that became idle is closed, ms. */
const CLOSE_IDLE_MS = 20;
/** Connections that the system holds until they are accepted. */
const BACKLOG = 1024;

export interface Listening {
  /** `http://127.0.0.1:5005` */
  readonly url: string;
  /** Accepts nothing more; resolves when every connection is closed. */
  close(): Promise<void>;
  /** Closes what is still open. */
  closeAll(): void;
}

export async function listen(app: Hono<AppEnv>, options: ListenOptions): Promise<Listening> {
  const { host, port, maxConnections, patience = PATIENCE } = options;
  const server = createServer(
    {
      headersTimeout: patience.headersMs,
      requestTimeout: patience.requestMs,
      connectionsCheckingInterval: Math.min(1000, patience.headersMs),
      keepAliveTimeout: KEEP_ALIVE_MS,
      maxHeaderSize: MOST_HEADER_BYTES,
      noDelay: true,
    },
    getRequestListener(app.fetch, {
      overrideGlobalObjects: false,
      errorHandler: (error) => badRequest(error),
    }),
  );
  server.maxHeadersCount = MOST_HEADERS;
  server.maxConnections = maxConnections;
  await bound(server, host, port);
  const address = server.address() as AddressInfo;
  const name = address.family === "IPv6" ? `[${address.address}]` : address.address;
  return {
    url: `http://${name}:${address.port}`,
    close: () =>
      new Promise((resolve) => {
        // A connection whose answer is complete would wait for a next request.
        const closingIdle = setInterval(() => server.closeIdleConnections(), CLOSE_IDLE_MS);
        server.close(() => {
          clearInterval(closingIdle);
          resolve();
        });
        server.closeIdleConnections();
      }),
    closeAll: () => server.closeAllConnections(),
  };
}

/** What never becomes a request: a Host or a target that is none. */
function badRequest(error: unknown): Response {
  const { status, body } = errorReply(new InvalidRequestError((error as Error).message, { code: "INVALID_REQUEST" }));
  return Response.json(body, { status });
}

function bound(server: Server, host: string, port: number): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once("error", (error: NodeJS.ErrnoException) => reject(refusal(error, host, port)));
    server.listen({ host, port, backlog: BACKLOG }, () => {
      server.removeAllListeners("error");
      resolve();
    });
  });
}

function refusal(error: NodeJS.ErrnoException, host: string, port: number): Error {
  const hints: Record<string, string> = {
    EADDRINUSE: "Something listens there already: choose another --port, or 0 for any that is free.",
    EACCES: "Ports below 1024 need privileges: choose a higher --port.",
    EADDRNOTAVAIL: "This computer has no such address: choose another --host.",
    ENOTFOUND: "No computer has that name: choose another --host.",
  };
  const hint = hints[error.code ?? ""];
  return hint ? new UsageError(`the server cannot listen on ${host}:${port} (${error.code})`, { hint }) : error;
}
