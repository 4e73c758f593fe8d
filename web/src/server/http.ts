// Requests to the server this page came from. A key, where the server wants one, is asked for
// once and kept in this browser.

import { signal } from "@preact/signals";

const KEY = "exllama.key";

/** The server has refused for want of a key, or of one that opens more than the one that was given. */
export const keyNeeded = signal<"no" | "missing" | "wrong">("no");

/** What the server answered when it did not do as asked. */
export class ServerError extends Error {
  override name = "ServerError";
  readonly status: number;
  readonly code: string;
  readonly body: unknown;

  constructor(status: number, body: unknown) {
    const { message, code } = Object(Object(body).error) as { message?: unknown; code?: unknown };
    super(typeof message === "string" ? message : `the server answered with status ${status}`);
    this.status = status;
    this.code = typeof code === "string" ? code : "";
    this.body = body;
  }
}

/** Keeps the key and begins anew with it. */
export function useKey(key: string): void {
  localStorage.setItem(KEY, key);
  location.reload();
}

/** @throws {ServerError} for every answer that is none; TypeError where the server cannot be reached */
export async function request(path: string, init: RequestInit = {}): Promise<Response> {
  const key = localStorage.getItem(KEY);
  const headers = new Headers(init.headers);
  if (key) headers.set("authorization", `Bearer ${key}`);
  const response = await fetch(path, { ...init, headers });
  if (response.ok) return response;
  if (response.status === 401 || (response.status === 403 && key)) keyNeeded.value = key ? "wrong" : "missing";
  throw new ServerError(response.status, await response.json().catch(() => null));
}

export async function getJson<T>(path: string, init: RequestInit = {}): Promise<T> {
  return (await (await request(path, init)).json()) as T;
}

/** @param init headers and signal beside the body */
export async function sendJson(method: string, path: string, body: unknown, init: RequestInit = {}): Promise<Response> {
  const headers = new Headers(init.headers);
  headers.set("content-type", "application/json");
  return request(path, { ...init, method, headers, body: JSON.stringify(body) });
}
