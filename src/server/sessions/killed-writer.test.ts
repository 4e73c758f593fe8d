// kill -9 in the middle of writes, with real processes: whatever was confirmed is there, and
// what is there is whole.

import { spawn } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { build } from "rolldown";
import { afterAll, beforeAll, expect, it } from "vitest";
import { sessionContent } from "../../../test/support/session-content.js";
import { packageRoot } from "../../paths.js";
import { SessionStore } from "./store.js";

const KILLS = 12;

let folder: string;
let program: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "killed-"));
  program = join(folder, "writer.mjs");
  await build({
    input: join(packageRoot, "test/support/session-writer.ts"),
    platform: "node",
    output: { file: program, format: "esm", codeSplitting: false },
    logLevel: "silent",
  });
});
afterAll(() => rm(folder, { recursive: true, force: true }));

it("loses and tears no session when the process that writes it is killed", async () => {
  const sessions = join(folder, "sessions");
  const { id } = await (await SessionStore.open(sessions)).create(sessionContent());
  for (let round = 0; round < KILLS; round++) {
    const confirmed = await writeUntilKilled(sessions, id, 3 + round * 2);
    const store = await SessionStore.open(sessions);
    const { revision, text } = await store.read(id);
    expect(revision).toBeGreaterThanOrEqual(confirmed);
    expect(text).toBe(`revision ${revision} `.repeat(20_000));
    expect((await store.list()).problems).toEqual([]);
  }
});

/** Lets a process write, and kills it some milliseconds after its first confirmed write. @returns the last confirmed revision */
function writeUntilKilled(sessions: string, id: string, milliseconds: number): Promise<number> {
  const child = spawn(process.execPath, [program, sessions, id], { stdio: ["ignore", "pipe", "pipe"] });
  let confirmed = 0;
  let complaint = "";
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    complaint += text;
  });
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    if (confirmed === 0) setTimeout(() => child.kill("SIGKILL"), milliseconds);
    confirmed = Number(text.slice(0, text.lastIndexOf("\n")).split("\n").at(-1));
  });
  return new Promise((resolve, reject) => {
    child.on("close", (_, signal) =>
      signal === "SIGKILL" && confirmed > 0 ? resolve(confirmed) : reject(new Error(`the writer ended by itself: ${complaint}`)),
    );
  });
}
