// The engine in a child process: whatever happens to it (a crash in a driver, the system's
// out-of-memory killer) happens to it alone, and its memory is free when it is gone.
//
// No orphans: the child ends when its channel closes, which the system does however the
// parent ends; besides, a parent that exits kills its engines on the way out, so that one in
// the middle of a step does not linger. The child's standard error is kept for the error
// message and shown nowhere else; its standard output goes nowhere.

import { type ChildProcess, fork } from "node:child_process";
import type { Socket } from "node:net";
import { distFile } from "../paths.js";
import type { EngineEnd } from "./errors.js";
import { LastLines } from "./last-lines.js";
import type { EngineLink } from "./link.js";
import type { FromEngine, ToEngine } from "./protocol.js";

/** After the process has ended, how long its closing streams are waited for, ms. */
const DRAIN_MS = 1000;

const living = new Set<ChildProcess>();

/** @param entry the engine's program; a test may bring its own */
export function startProcess(entry: string = distFile("engine/child.js")): EngineLink {
  const child = fork(entry, [], {
    serialization: "advanced",
    stdio: ["ignore", "ignore", "pipe", "ipc"],
    // The parent's flags (a debugger's port, a loader) are not the engine's.
    execArgv: [],
  });
  killAtExit(child);
  const stderr = new LastLines();
  child.stderr?.on("data", (bytes: Buffer) => stderr.add(bytes));
  const link: EngineLink = {
    onMessage: () => {},
    send: (message: ToEngine) => {
      // A failed send needs no handling here: the engine is gone then, and `ended` says so.
      if (child.connected) child.send(message, () => {});
    },
    ended: ended(child, stderr),
    holdEventLoop: (hold) => holdEventLoop(child, hold),
    kill: () => void child.kill("SIGKILL"),
  };
  child.on("message", (message) => link.onMessage(message as FromEngine));
  link.holdEventLoop(false);
  return link;
}

function ended(child: ChildProcess, stderr: LastLines): Promise<EngineEnd> {
  return new Promise((resolve) => {
    const finish = (exitCode: number | null, signal: string | null) => {
      living.delete(child);
      resolve({ kind: "process", pid: child.pid ?? null, exitCode, signal, stderr: stderr.text() });
    };
    // `close` comes after the last message and the last line, unless someone else holds the streams open.
    child.once("close", finish);
    child.once("exit", (exitCode, signal) => setTimeout(finish, DRAIN_MS, exitCode, signal).unref());
    child.once("error", (error) => {
      stderr.add(Buffer.from(`${error.message}\n`));
      if (child.pid === undefined) finish(null, null);
    });
  });
}

function holdEventLoop(child: ChildProcess, hold: boolean): void {
  const stderr = child.stderr as Socket | null;
  for (const handle of [child, child.channel, stderr]) {
    if (hold) handle?.ref();
    else handle?.unref();
  }
}

function killAtExit(child: ChildProcess): void {
  if (living.size === 0) {
    process.off("exit", killLiving);
    process.on("exit", killLiving);
  }
  living.add(child);
}

function killLiving(): void {
  for (const child of living) child.kill("SIGKILL");
}
