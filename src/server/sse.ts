// Server-sent events as the OpenAI API streams them. Pulled, not pushed: the next event is asked
// for when the socket has taken the one before, so nothing piles up for a slow reader. While there
// is nothing to say a comment goes out now and then, so that no proxy takes the silence of a long
// prompt for death. A reader that takes nothing at all for too long is cut off.

import type { Context } from "hono";
import type { AppEnv } from "./app-env.js";

/** A comment after so long a silence, ms. */
export const PING_MS = 10_000;
/** A client that takes nothing for so long is gone, ms. */
const STALLED_MS = 120_000;

const PING = new TextEncoder().encode(": ping\n\n");
const encoder = new TextEncoder();

/** One event; `name` where the protocol has named ones. */
export function sseEvent(data: unknown, name?: string): string {
  const text = typeof data === "string" ? data : JSON.stringify(data);
  return `${name === undefined ? "" : `event: ${name}\n`}data: ${text}\n\n`;
}

export interface SseOptions {
  /** Called once, however the stream ends; `left`: its reader went away before the end. */
  readonly onEnd: (left: boolean) => void;
  readonly pingMs?: number;
  readonly stalledMs?: number;
}

/** @param events finished events, as text; must handle its own failures: a throw only ends the stream */
export function sseResponse(context: Context<AppEnv>, events: AsyncIterator<string, unknown>, options: SseOptions): Response {
  const { onEnd, pingMs = PING_MS, stalledMs = STALLED_MS } = options;
  let pending: Promise<IteratorResult<string, unknown>> | null = null;
  let stalled: NodeJS.Timeout | undefined;
  let over = false;
  const end = (left: boolean) => {
    if (over) return;
    over = true;
    clearTimeout(stalled);
    onEnd(left);
  };
  const body = new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        clearTimeout(stalled);
        pending ??= events.next();
        const next = await orSilence(pending, pingMs);
        if (over) return;
        if (next === "silence") controller.enqueue(PING);
        else {
          pending = null;
          if (next.done) {
            end(false);
            controller.close();
            return;
          }
          controller.enqueue(encoder.encode(next.value));
        }
        // Destroying the response cancels this stream, as a client that closes the connection does.
        stalled = setTimeout(() => context.env.outgoing?.destroy(), stalledMs).unref();
      },
      async cancel() {
        end(true);
        await events.return?.();
      },
    },
    { highWaterMark: 0 },
  );
  return context.body(body, 200, {
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-cache, no-transform",
    "x-accel-buffering": "no",
  });
}

async function orSilence<T>(promise: Promise<T>, milliseconds: number): Promise<T | "silence"> {
  let timer: NodeJS.Timeout | undefined;
  const silence = new Promise<"silence">((resolve) => {
    timer = setTimeout(resolve, milliseconds, "silence");
  });
  try {
    return await Promise.race([promise, silence]);
  } finally {
    clearTimeout(timer);
  }
}
