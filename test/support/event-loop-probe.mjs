// How long a program holds its own event loop. On a busy machine a late timer proves nothing:
// the thread may have been ready and without a processor. So a tick's lateness counts only
// where the loop was active (not waiting for events) and the thread was not waiting for a
// processor, which Linux tells as the run delay of a thread. Elsewhere the activity alone counts.

import { readFileSync } from "node:fs";
import { performance } from "node:perf_hooks";

const TICK_MS = 1;

/** Starts watching this thread's event loop; `stop()` returns the longest time that it was held, ms. */
export function watchEventLoop() {
  let longest = 0;
  let last = reading();
  const tick = () => {
    const now = reading();
    const held = now.active - last.active - (now.runDelay - last.runDelay);
    longest = Math.max(longest, held);
    last = now;
  };
  const timer = setInterval(tick, TICK_MS);
  return {
    stop() {
      tick();
      clearInterval(timer);
      return longest;
    },
  };
}

function reading() {
  return { active: performance.eventLoopUtilization().active, runDelay: runDelay() };
}

/** Time that this thread has waited for a processor so far, ms. */
function runDelay() {
  try {
    return Number(readFileSync("/proc/thread-self/schedstat", "utf8").split(" ")[1]) / 1e6;
  } catch {
    return 0;
  }
}
