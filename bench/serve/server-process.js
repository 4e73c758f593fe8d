// The server under test: started here unless it runs somewhere already, and looked at from outside.

import { spawn } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const program = join(fileURLToPath(new URL("../..", import.meta.url)), "dist/cli/main.js");

/**
 * Starts `exllama serve` on a free port.
 *
 * @param {string[]} flags as typed after `exllama serve`
 * @returns {Promise<{url: string, pid: number, stop: () => Promise<number | null>}>}
 */
export async function startServer(flags) {
  const args = [program, "serve", "--port", "0", "--json", "--no-page", "--log-level", "warn", ...flags];
  const child = spawn(process.execPath, args, { stdio: ["ignore", "pipe", "inherit"] });
  const exit = new Promise((resolve) => child.on("exit", (code) => resolve(code)));
  const line = await new Promise((resolve, reject) => {
    child.stdout.once("data", (data) => resolve(String(data)));
    child.once("exit", (code) => reject(new Error(`exllama serve ended with ${code} before it listened`)));
  });
  const stop = () => {
    child.kill("SIGTERM");
    return exit;
  };
  process.once("exit", () => child.kill("SIGKILL"));
  return { url: JSON.parse(line).url, pid: child.pid, stop };
}

/** Resident bytes of a process and of its engine; `null` where the system does not tell. */
export function residentBytes(pid) {
  try {
    const children = readdirSync(`/proc/${pid}/task`)
      .flatMap((task) => readFileSync(`/proc/${pid}/task/${task}/children`, "utf8").trim().split(" "))
      .filter((child) => child !== "");
    return { server: residentOf(pid), engine: children.reduce((sum, child) => sum + residentOf(child), 0) };
  } catch {
    return null;
  }
}

function residentOf(pid) {
  return Number(/^VmRSS:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1] ?? 0) * 1024;
}

/**
 * The server's own figures. Reading them begins a new window of its event loop's delays.
 *
 * @returns {Promise<Map<string, number>>} by name with labels
 */
export async function readMetrics(url) {
  const text = await (await fetch(`${url}/metrics`)).text();
  const lines = text.split("\n").filter((line) => line !== "" && !line.startsWith("#"));
  return new Map(lines.map((line) => [line.slice(0, line.lastIndexOf(" ")), Number(line.slice(line.lastIndexOf(" ") + 1))]));
}
