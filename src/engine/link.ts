// The two ends of an engine, whatever it runs in: a child process (`process-link.ts`), a worker
// thread (`thread-link.ts`), or, in unit tests, the same thread.

import type { EngineEnd } from "./errors.js";
import type { FromEngine, ToEngine } from "./protocol.js";

export interface EngineLink {
  /** Sends in order; silently nothing once the engine has ended (`ended` tells). */
  send(message: ToEngine): void;
  /** Set once, before the first send. */
  onMessage: (message: FromEngine) => void;
  /** Resolves when the engine is gone, its memory free and its last message delivered. Never rejects. */
  readonly ended: Promise<EngineEnd>;
  /** Whether a running engine keeps the caller's event loop alive. A fresh link does not. */
  holdEventLoop(hold: boolean): void;
  /** Ends the engine at once, without asking it. */
  kill(): void;
}
