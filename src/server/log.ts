// The server's log: one JSON line each, on standard error. Lines are written in the background and
// dropped where nobody takes them, so that a full pipe never stops an answer.

import { destination, type Logger, pino, stdTimeFunctions } from "pino";

/** Bytes of lines not yet taken that are kept. */
const MOST_UNWRITTEN = 1024 * 1024;

export function openLog(level: string): Logger {
  const to = destination({ fd: 2, sync: false, maxLength: MOST_UNWRITTEN });
  // Whoever read the log has gone: nothing to tell, and nobody to tell it to.
  to.on("error", () => {});
  return pino({ level, base: null, timestamp: stdTimeFunctions.isoTime }, to);
}
