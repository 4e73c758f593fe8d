// Ten thousand connections that say nothing any more, against `exllama serve` in a process of its own.

import { type ChildProcess, spawn } from "node:child_process";
import { connect, type Socket } from "node:net";
import { afterAll, expect, it } from "vitest";
import { distFile } from "../../src/paths.js";
import { metric, post, until } from "./demo-server.js";

let child: ChildProcess | undefined;
afterAll(() => void child?.kill("SIGKILL"));

/** Files that a process may have open here, some left for what else it needs. */
function connectionsAllowed(): number {
  const { userLimits } = process.report.getReport() as { userLimits?: { open_files?: { soft: number | "unlimited" } } };
  const limit = userLimits?.open_files?.soft;
  return typeof limit === "number" ? limit - 300 : Number.POSITIVE_INFINITY;
}

/** A connection that says nothing: one in four was answered once before, the others never spoke. */
function idle(port: number, index: number): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect(port, "127.0.0.1", () => {
      if (index % 4 === 0) socket.write("GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n");
      else resolve(socket);
    });
    socket.once("data", () => resolve(socket));
    socket.on("error", reject);
  });
}

it("10,000 idle connections (or as many as the system lets a process have) keep nobody from being answered", async () => {
  const count = Math.min(10_000, connectionsAllowed());
  expect(count).toBeGreaterThan(500);
  const args = [
    distFile("cli/main.js"),
    "serve",
    "--port",
    "0",
    "--json",
    "--threads",
    "1",
    "--no-page",
    "--log-level",
    "silent",
  ];
  child = spawn(process.execPath, args, { stdio: ["ignore", "pipe", "ignore"] });
  const line = await new Promise<string>((resolve) => child!.stdout!.once("data", (data) => resolve(String(data))));
  const { url } = JSON.parse(line) as { url: string };
  const port = Number(new URL(url).port);

  const sockets: Socket[] = [];
  for (let at = 0; at < count; at += 500)
    sockets.push(...(await Promise.all(Array.from({ length: Math.min(500, count - at) }, (_, index) => idle(port, index)))));
  expect(await metric(url, "process_open_fds")).toBeGreaterThan(count);

  const ask = { messages: [{ role: "user", content: "Hi" }], max_tokens: 8, temperature: 0 };
  const answers = await Promise.all(Array.from({ length: 8 }, () => post(`${url}/v1/chat/completions`, ask)));
  expect(answers.map((answer) => answer.status)).toEqual(Array(8).fill(200));

  for (const socket of sockets) socket.destroy();
  await until(async () => (await metric(url, "process_open_fds")) < 200);
  expect((await post(`${url}/v1/chat/completions`, ask)).status).toBe(200);
  child.kill("SIGTERM");
  expect(await new Promise((resolve) => child!.once("exit", resolve))).toBe(0);
});
