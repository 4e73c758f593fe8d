// A server on the demo model, in this process, on a port of its own.

import OpenAI from "openai";
import { pino } from "pino";
import { demoModel, type LoadOptions, loadModel, type Model } from "../../src/index.js";
import { type RunningServer, type ServerOptions, startServer } from "../../src/server/start.js";

export interface DemoServer {
  readonly url: string;
  readonly model: Model;
  readonly server: RunningServer;
  /** A client that does not try again: what fails shows. */
  readonly client: OpenAI;
  /** Without waiting for anything. */
  close(): Promise<void>;
}

export type DemoOptions = Partial<ServerOptions> & {
  readonly load?: LoadOptions;
  /** A model that is there already, instead of one of its own: several servers of one file, one after the other. */
  readonly lent?: Model;
};

const LOADING: LoadOptions = { maxSequences: 4, cacheTokens: 4096, threads: 1 };

/** For servers that come and go, see `lent`. */
export const loadDemo = (): Promise<Model> => loadModel(demoModel, LOADING);

export async function serveDemo({ load, lent, ...options }: DemoOptions = {}): Promise<DemoServer> {
  const loading: LoadOptions = { ...LOADING, ...load };
  const model = lent ? withoutDispose(lent) : await loadModel(demoModel, loading);
  const server = await startServer(model, {
    host: "127.0.0.1",
    port: 0,
    keys: { api: [], admin: [] },
    corsOrigins: [],
    names: ["demo"],
    maxWaiting: 64,
    requestTimeoutMs: null,
    maxBody: 2 ** 20,
    maxConnections: 1000,
    log: pino({ level: "silent" }),
    sessions: null,
    command: "exllama serve",
    reload: (signal) => loadModel(demoModel, { ...loading, signal }),
    ...options,
  });
  const client = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: options.keys?.api[0] ?? "none", maxRetries: 0 });
  return { url: server.url, model, server, client, close: () => server.close(0) };
}

/** The same model for a server that gives it back when it ends. */
function withoutDispose(model: Model): Model {
  return new Proxy(model, {
    get: (target, name) => {
      const value: unknown = name === "dispose" ? async () => {} : Reflect.get(target, name);
      return typeof value === "function" ? value.bind(target) : value;
    },
  });
}

/** A JSON request as a client without a library sends it. */
export function post(url: string, body: unknown, headers: Record<string, string> = {}): Promise<Response> {
  return fetch(url, {
    method: "POST",
    headers: { "content-type": "application/json", ...headers },
    body: typeof body === "string" ? body : JSON.stringify(body),
  });
}

/** The answer's body to such a request. */
export async function postJson<T>(url: string, body: unknown): Promise<T> {
  return (await (await post(url, body)).json()) as T;
}

/** A line of `/metrics`, 0 where it is not there. */
export async function metric(url: string, name: string): Promise<number> {
  const text = await (await fetch(`${url}/metrics`)).text();
  const line = text.split("\n").find((one) => one.startsWith(`${name} `) || one.startsWith(`${name}{`));
  return Number(line?.split(" ").at(-1) ?? 0);
}

/** Waits until it holds; the test's own time limit ends a wait that is too long. */
export async function until(condition: () => boolean | Promise<boolean>): Promise<void> {
  while (!(await condition())) await new Promise((resolve) => setTimeout(resolve, 10));
}
