// Which processes a test has started, and whether they are gone.

import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";

/** Ids of the running children of a process; one that has ended but was not yet waited for does not count. */
export function childrenOf(parent: number): number[] {
  const lines = execFileSync("ps", ["-A", "-o", "pid=,ppid=,stat=,comm="], { encoding: "utf8" }).trim().split("\n");
  return lines
    .map((line) => line.trim().split(/\s+/))
    .filter(([, ppid, stat = "", comm]) => Number(ppid) === parent && !stat.startsWith("Z") && comm !== "ps")
    .map(([pid]) => Number(pid));
}

/** Whether a process runs; a zombie does not. */
export function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
  } catch {
    return false;
  }
  try {
    return !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, "utf8"));
  } catch {
    return process.platform !== "linux";
  }
}

/** Waits until a condition holds; the test's own time limit ends a wait that is too long. */
export async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setTimeout(resolve, 5));
}
