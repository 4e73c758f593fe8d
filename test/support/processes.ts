// Which processes a test has started, and whether they are gone.

import { execFileSync } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";

/** Ids of the running children of a process; one that has ended but was not yet waited for does not count. */
export function childrenOf(parent: number): number[] {
  const all = process.platform === "linux" ? fromProc() : fromPs();
  return all.filter(({ ppid, state }) => ppid === parent && state !== "Z").map(({ pid }) => pid);
}

interface ProcessLine {
  readonly pid: number;
  readonly ppid: number;
  readonly state: string;
}

/** Without a process of its own: tests ask again and again. */
function fromProc(): ProcessLine[] {
  return readdirSync("/proc").flatMap((name) => {
    if (!/^\d+$/.test(name)) return [];
    try {
      // "pid (name) state ppid …", where the name may have spaces and brackets.
      const stat = readFileSync(`/proc/${name}/stat`, "latin1");
      const [state = "", ppid] = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
      return [{ pid: Number(name), ppid: Number(ppid), state }];
    } catch {
      return []; // it has ended meanwhile
    }
  });
}

function fromPs(): ProcessLine[] {
  const lines = execFileSync("ps", ["-A", "-o", "pid=,ppid=,stat=,comm="], { encoding: "utf8" }).trim().split("\n");
  return lines
    .map((line) => line.trim().split(/\s+/))
    .filter(([, , , comm]) => comm !== "ps")
    .map(([pid, ppid, stat = ""]) => ({ pid: Number(pid), ppid: Number(ppid), state: stat[0] ?? "" }));
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
