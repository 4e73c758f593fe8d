// An engine as its parent sees it, over the channel that fork() made: it ends when told to, and when that channel closes,
// which happens however the parent ends.

import { Host } from "./host.js";
import { loadEngine, planCheckpoint } from "./load-engine.js";
import type { ToEngine } from "./protocol.js";

/** Makes an engine of this process, which ends with status 2 where nobody has forked it. */
export function serveParent(): void {
  if (!process.send) {
    process.stderr.write("this file is the engine of exllama-ts; it is started by loadModel()\n");
    process.exit(2);
  }
  // Ctrl-C goes to every process of the terminal; what it means is the parent's to say.
  process.on("SIGINT", () => {});
  process.once("disconnect", () => process.exit(0));
  const host = new Host(
    { load: loadEngine, plan: planCheckpoint },
    {
      // A failed send means that the parent is gone, and `disconnect` follows.
      send: (message) => new Promise((resolve) => process.send?.(message, undefined, undefined, () => resolve())),
      finish: () => process.disconnect(),
    },
  );
  process.on("message", (message) => host.receive(message as ToEngine));
}
