// The engine in a worker thread of the caller's process.

import { parentPort } from "node:worker_threads";
import { Host } from "./host.js";
import { loadEngine, planCheckpoint } from "./load-engine.js";
import type { ToEngine } from "./protocol.js";

const port = parentPort;
if (!port) throw new Error("this file is the engine of exllama-ts; it is started by loadModel()");

const host = new Host(
  { load: loadEngine, plan: planCheckpoint },
  {
    send: async (message) => port.postMessage(message),
    // Ends this thread only.
    finish: () => process.exit(0),
  },
);
port.on("message", (message: ToEngine) => host.receive(message));
