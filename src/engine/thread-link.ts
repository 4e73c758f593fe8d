// The engine in a worker thread of the caller's process: for places where a child process is
// unwanted. A crash of native code in it is the caller's crash; everything else is the same.

import { Worker } from "node:worker_threads";
import { distFile } from "../paths.js";
import type { EngineEnd } from "./errors.js";
import { LastLines } from "./last-lines.js";
import type { EngineLink } from "./link.js";
import type { FromEngine, ToEngine } from "./protocol.js";

/** @param entry the engine's program; a test may bring its own */
export function startThread(entry: string = distFile("engine/thread.js")): EngineLink {
  const worker = new Worker(entry, {
    name: "exllama engine",
    execArgv: [],
    stdout: true,
    stderr: true,
  });
  const stderr = new LastLines();
  worker.stdout.resume();
  worker.stderr.on("data", (bytes: Buffer) => stderr.add(bytes));
  const link: EngineLink = {
    onMessage: () => {},
    send: (message: ToEngine) => worker.postMessage(message),
    ended: ended(worker, stderr),
    holdEventLoop: (hold) => {
      if (hold) worker.ref();
      else worker.unref();
    },
    kill: () => void worker.terminate(),
  };
  worker.on("message", (message: FromEngine) => link.onMessage(message));
  link.holdEventLoop(false);
  return link;
}

function ended(worker: Worker, stderr: LastLines): Promise<EngineEnd> {
  return new Promise((resolve) => {
    // An uncaught error in the thread; `exit` follows.
    worker.on("error", (error) =>
      stderr.add(Buffer.from(`${error instanceof Error ? (error.stack ?? error.message) : error}\n`)),
    );
    worker.once("exit", (exitCode) => resolve({ kind: "thread", pid: null, exitCode, signal: null, stderr: stderr.text() }));
  });
}
