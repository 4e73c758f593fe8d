// Calls over a link: gives each its id, sorts the engine's messages to them, and ends them all
// when the engine ends. A caller's AbortSignal rejects its call at once, with `signal.reason`;
// the engine is told, and the call stays known here until the engine says that it has freed it.

import { UsageError } from "../errors.js";
import { onAbort } from "../on-abort.js";
import { EngineDiedError, type EngineEnd } from "./errors.js";
import type { EngineLink } from "./link.js";
import type { GenerationEvent } from "./model.js";
import type { Call, FromEngine, Replies } from "./protocol.js";
import { reviveError } from "./wire-errors.js";

/** Step messages are acknowledged in groups of this many: fewer than `outbox.ts` allows under way. */
const ACK_EVERY = 16;

export interface CallEvents {
  readonly signal?: AbortSignal;
  readonly onPiece?: (piece: GenerationEvent) => void;
  readonly onRow?: (row: Float32Array) => void;
  readonly onProgress?: (progress: { loadedBytes: number; totalBytes: number }) => void;
}

export interface PendingCall<T> {
  /** The engine's answer, or why there is none. */
  readonly reply: Promise<T>;
  /** Rejects `reply` with `reason` now; the promise resolves when the engine has freed what the call held. */
  cancel(reason: unknown): Promise<void>;
}

interface Entry {
  readonly events: CallEvents;
  /** The caller has its answer or has gone away: nothing more is passed on. */
  settled: boolean;
  resolve(value: Replies[keyof Replies]): void;
  reject(error: unknown): void;
  cancel(reason: unknown): void;
  /** The engine is done with it. */
  released(): void;
}

export class Connection {
  readonly ended: Promise<EngineEnd>;
  readonly #link: EngineLink;
  readonly #entries = new Map<number, Entry>();
  #lastId = 0;
  #unacknowledged = 0;
  /** Why new calls are refused, once they are. */
  #closed: Error | null = null;

  constructor(link: EngineLink) {
    this.#link = link;
    link.onMessage = (message) => this.#receive(message);
    this.ended = link.ended.then((end) => {
      this.close(new EngineDiedError(end), { engineGone: true });
      return end;
    });
  }

  /** Sends a call; its answer comes as `reply`, which the caller must handle. */
  call<C extends Call>(call: C, events: CallEvents = {}): PendingCall<Replies[C["op"]]> {
    const { signal } = events;
    const refused = signal?.aborted ? { reason: signal.reason as unknown } : this.#closed ? { reason: this.#closed } : null;
    if (refused) return { reply: Promise.reject(refused.reason), cancel: async () => {} };

    const id = ++this.#lastId;
    const { promise: reply, resolve, reject } = deferred<Replies[keyof Replies]>();
    const { promise: released, resolve: release } = deferred<void>();
    const entry: Entry = {
      events,
      settled: false,
      resolve,
      cancel: (reason) => void cancel(reason),
      reject: (error) => {
        entry.settled = true;
        leave();
        reject(error);
      },
      released: () => {
        entry.settled = true;
        leave();
        this.#entries.delete(id);
        this.#holdWhileBusy();
        release();
      },
    };
    const cancel = (reason: unknown): Promise<void> => {
      if (!entry.settled) {
        entry.reject(reason);
        this.#link.send({ type: "cancel", id });
      }
      return released;
    };
    const leave = onAbort(signal, () => void cancel(signal?.reason));
    this.#entries.set(id, entry);
    this.#holdWhileBusy();
    try {
      this.#link.send({ type: "call", id, call });
    } catch (error) {
      // Structured clone refuses functions and the like, which only an option can hold.
      entry.reject(
        new UsageError(`an option cannot be sent to the engine: ${(error as Error).message}`, { expected: "plain values" }),
      );
      entry.released();
    }
    return { reply: reply as Promise<Replies[C["op"]]>, cancel };
  }

  /** Rejects every call, those in flight and those to come. The first reason stays. */
  close(reason: Error, { engineGone = false } = {}): void {
    this.#closed ??= reason;
    for (const entry of [...this.#entries.values()]) {
      if (!entry.settled) entry.reject(this.#closed);
      if (engineGone) entry.released();
    }
  }

  /** Asks the engine to give everything back and end. */
  sendDispose(): void {
    this.#link.holdEventLoop(true);
    this.#link.send({ type: "dispose" });
  }

  kill(): void {
    this.#link.holdEventLoop(true);
    this.#link.kill();
  }

  #receive(message: FromEngine): void {
    if (message.type === "step") {
      for (const [id, piece] of message.pieces) this.#waiting(id)?.events.onPiece?.(piece);
      this.#acknowledge();
      return;
    }
    const entry = this.#entries.get(message.id);
    if (!entry) return;
    switch (message.type) {
      case "progress":
        if (!entry.settled) reportProgress(entry, message);
        return;
      case "row":
        if (!entry.settled) entry.events.onRow?.(message.row);
        return;
      case "done":
        if (!entry.settled) entry.resolve(message.value);
        entry.released();
        return;
      case "failed":
        if (!entry.settled) entry.reject(reviveError(message.error));
        entry.released();
    }
  }

  #waiting(id: number): Entry | undefined {
    const entry = this.#entries.get(id);
    return entry?.settled ? undefined : entry;
  }

  #acknowledge(): void {
    this.#unacknowledged += 1;
    if (this.#unacknowledged < ACK_EVERY) return;
    this.#link.send({ type: "ack", steps: this.#unacknowledged });
    this.#unacknowledged = 0;
  }

  /** An idle engine does not keep a program running that has nothing else to do. */
  #holdWhileBusy(): void {
    this.#link.holdEventLoop(this.#entries.size > 0);
  }
}

/** What the caller's own function throws ends the call: thrown from here it would end the program. */
function reportProgress(entry: Entry, { loadedBytes, totalBytes }: { loadedBytes: number; totalBytes: number }): void {
  try {
    entry.events.onProgress?.({ loadedBytes, totalBytes });
  } catch (error) {
    entry.cancel(error);
  }
}

function deferred<T>() {
  let resolve!: (value: T) => void;
  let reject!: (error: unknown) => void;
  const promise = new Promise<T>((yes, no) => {
    resolve = yes;
    reject = no;
  });
  return { promise, resolve, reject };
}
