// Puts a server together around a loaded model, and takes it apart again: the one place that knows
// all its parts.

import type { Logger } from "pino";
import type { Model } from "../engine/model.js";
import type { Keys } from "./access/keys.js";
import { isLocal } from "./access/same-site.js";
import { Answering } from "./answering.js";
import { createApp, type Mount } from "./app.js";
import { type Listening, listen } from "./listen.js";
import { ServerMetrics } from "./metrics.js";
import { ModelKeeper } from "./model-keeper.js";
import { pageApi } from "./page/api.js";
import { LiveFigures } from "./page/live-figures.js";
import { pageRoutes } from "./page/routes.js";
import { sessionRoutes } from "./sessions/routes.js";
import { SessionStore } from "./sessions/store.js";

export interface ServerOptions {
  readonly host: string;
  readonly port: number;
  readonly keys: Keys;
  readonly corsOrigins: readonly string[];
  /** Names that the model answers to; the first is its own. */
  readonly names: readonly [string, ...string[]];
  /** Sequences that may wait for their turn, beside those that run. */
  readonly maxWaiting: number;
  /** Longest answer, ms; `null` = no limit. */
  readonly requestTimeoutMs: number | null;
  /** Most bytes of a request's body. */
  readonly maxBody: number;
  readonly maxConnections: number;
  readonly log: Logger;
  /** Folder of the page's sessions; `null`: no page, the API alone. */
  readonly sessions: string | null;
  /** The command line that serves this model, for the page. */
  readonly command: string;
  /** Loads the model again when its engine has died. */
  readonly reload: (signal: AbortSignal) => Promise<Model>;
}

export interface RunningServer {
  readonly url: string;
  /** Finishes what runs, or fails it after `graceMs`; then gives the model back. Idempotent. */
  close(graceMs: number): Promise<void>;
}

/** Whether only this computer can reach a server on that address. */
export function isLoopback(host: string): boolean {
  return isLocal(host) || host === "::1";
}

/**
 * Starts serving.
 *
 * @param model the server's from now on; given back where it cannot start
 */
export async function startServer(model: Model, options: ServerOptions): Promise<RunningServer> {
  try {
    return await start(model, options);
  } catch (error) {
    await model.dispose();
    throw error;
  }
}

async function start(model: Model, options: ServerOptions): Promise<RunningServer> {
  const { log, names, host, port, maxConnections } = options;
  const keeper = new ModelKeeper(model, { names, load: options.reload, log });
  const metrics = new ServerMetrics();
  const answering = new Answering({
    models: keeper,
    places: model.plan.run.maxSequences + options.maxWaiting,
    timeoutMs: options.requestTimeoutMs,
  });
  const page = options.sessions === null ? null : await openPage(options.sessions, { keeper, metrics, command: options.command });
  const mounts = page?.mounts ?? [];
  const app = createApp({ ...options, models: keeper, answering, metrics, loopback: isLoopback(host), mounts });
  const listening = await listen(app, { host, port, maxConnections });
  let closing: Promise<void> | null = null;
  return {
    url: listening.url,
    close: (graceMs) => {
      closing ??= close({ listening, answering, keeper, metrics, page }, graceMs);
      return closing;
    },
  };
}

interface Page {
  readonly mounts: readonly Mount[];
  close(): Promise<void>;
}

/** The web page: its files are for everybody, what it keeps and shows is not. */
async function openPage(folder: string, parts: { keeper: ModelKeeper; metrics: ServerMetrics; command: string }): Promise<Page> {
  const { keeper, metrics, command } = parts;
  const store = await SessionStore.open(folder);
  const live = new LiveFigures({ models: keeper, metrics });
  return {
    mounts: [
      { path: "/api/sessions", access: "admin", routes: sessionRoutes(store) },
      { path: "/api", access: "admin", routes: pageApi({ models: keeper, live, command }) },
      { path: "/", access: "open", routes: pageRoutes() },
    ],
    close: async () => {
      live.dispose();
      await store.close();
    },
  };
}

/** Responses that are complete may still be on their way to a slow client, ms. */
const LAST_BYTES_MS = 1_000;

async function close(
  parts: { listening: Listening; answering: Answering; keeper: ModelKeeper; metrics: ServerMetrics; page: Page | null },
  graceMs: number,
): Promise<void> {
  const { listening, answering, keeper, metrics, page } = parts;
  const closed = listening.close();
  await answering.close(graceMs);
  await Promise.race([closed, new Promise((resolve) => setTimeout(resolve, LAST_BYTES_MS).unref())]);
  listening.closeAll();
  await page?.close();
  await keeper.close();
  metrics.dispose();
}
