// The same as killed-writer.test.ts through the whole server: `exllama serve` is killed while a
// client writes, started again, and has everything that it had confirmed.

import { type ChildProcess, spawn } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { sessionContent } from "../../../test/support/session-content.js";
import { distFile } from "../../paths.js";
import type { SessionDocument } from "./document.js";
import type { SessionList } from "./store.js";

const KILLS = 2;

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "killed-server-"));
});
const started: ChildProcess[] = [];
afterAll(async () => {
  for (const server of started) server.kill("SIGKILL");
  await rm(folder, { recursive: true, force: true });
});

it("has every confirmed session after kill -9 in the middle of writes", async () => {
  const confirmed = new Map<string, number>();
  for (let round = 0; round < KILLS; round++) {
    const { server, sessions } = await start();
    await check(sessions, confirmed);
    const before = confirmed.size;
    const writers = [0, 1].map(() => writeUntilGone(sessions, confirmed));
    while (confirmed.size < before + 2) await new Promise((resolve) => setTimeout(resolve, 5));
    setTimeout(() => server.kill("SIGKILL"), 20 + 45 * round);
    await Promise.all(writers);
  }
  await check((await start()).sessions, confirmed);
  expect(confirmed.size).toBe(2 * KILLS);
});

/** Writes one session over and over until the server no longer answers. */
async function writeUntilGone(sessions: string, confirmed: Map<string, number>): Promise<void> {
  const send = (path: string, method: string, revision: number) =>
    fetch(sessions + path, {
      method,
      headers: { "content-type": "application/json", "if-match": `"${revision}"` },
      body: JSON.stringify(sessionContent({ text: textOf(revision + 1) })),
    });
  try {
    let { id, revision } = (await (await send("", "POST", 0)).json()) as SessionDocument;
    for (;;) {
      confirmed.set(id, revision);
      const response = await send(`/${id}`, "PUT", revision);
      expect(response.status).toBe(200);
      ({ revision } = (await response.json()) as SessionDocument);
    }
  } catch (error) {
    if (!(error instanceof TypeError)) throw error; // the connection is gone
  }
}

async function check(sessions: string, confirmed: ReadonlyMap<string, number>): Promise<void> {
  expect(((await (await fetch(sessions)).json()) as SessionList).problems).toEqual([]);
  for (const [id, least] of confirmed) {
    const { revision, text } = (await (await fetch(`${sessions}/${id}`)).json()) as SessionDocument;
    expect(revision).toBeGreaterThanOrEqual(least);
    expect(text).toBe(textOf(revision));
  }
}

function textOf(revision: number): string {
  return `revision ${revision} `.repeat(20_000);
}

async function start(): Promise<{ server: ChildProcess; sessions: string }> {
  // A pool of a given size needs no second process that looks how much fits.
  const size = ["--max-sequences", "1", "--cache-tokens", "2048"];
  const quiet = ["--json", "--log-level", "silent"];
  const flags = ["--port", "0", "--backend", "cpu", "--threads", "1", ...size, ...quiet, "--sessions", folder];
  const server = spawn(process.execPath, [distFile("cli/main.js"), "serve", ...flags], { stdio: ["ignore", "pipe", "ignore"] });
  started.push(server);
  const line = await new Promise<string>((resolve, reject) => {
    server.stdout!.setEncoding("utf8").once("data", resolve);
    server.once("close", () => reject(new Error("the server ended by itself")));
  });
  return { server, sessions: `${(JSON.parse(line) as { url: string }).url}/api/sessions` };
}
