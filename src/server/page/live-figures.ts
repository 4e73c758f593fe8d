// What the server is doing, sampled every two seconds and kept for a quarter of an hour, so
// that the memory page shows a past as soon as it is opened.

import type { EngineStatus } from "../../engine/model.js";
import type { ServerMetrics } from "../metrics.js";
import type { ModelSource } from "../model-source.js";

const EVERY_MS = 2000;
const KEPT = 450;
/** However many pages ask, the engine is asked no more often than this; rates over less would be noise. */
const FRESH_MS = 1000;

/** Counters only grow, until the engine is started anew; whoever draws them takes differences. */
export interface LiveSample {
  /** ms since 1970. */
  readonly time: number;
  readonly running: number;
  readonly waiting: number;
  /** Finished sequences whose KV is kept for reuse. */
  readonly idle: number;
  /** Of the first cache group. */
  readonly pages: { readonly free: number; readonly total: number };
  /** Tokens computed since loading. */
  readonly promptTokens: number;
  readonly generatedTokens: number;
  /** Requests that have got their first token, and the sum of their waits, s. */
  readonly firstToken: { readonly count: number; readonly seconds: number };
  readonly betweenTokens: { readonly count: number; readonly seconds: number };
  readonly devices: EngineStatus["devices"];
}

export class LiveFigures {
  readonly #models: Pick<ModelSource, "current">;
  readonly #metrics: Pick<ServerMetrics, "figures">;
  readonly #timer: NodeJS.Timeout;
  #samples: LiveSample[] = [];

  constructor({ models, metrics }: { models: Pick<ModelSource, "current">; metrics: Pick<ServerMetrics, "figures"> }) {
    this.#models = models;
    this.#metrics = metrics;
    // A model that is being loaded again has nothing to tell: that time stays empty.
    this.#timer = setInterval(() => void this.sample().catch(() => {}), EVERY_MS);
    this.#timer.unref();
  }

  /** Looks now, unless it has just looked, and remembers. @throws {ApiError} while there is no model */
  async sample(): Promise<LiveSample> {
    const last = this.#samples.at(-1);
    if (last && Math.abs(Date.now() - last.time) < FRESH_MS) return last;
    const { scheduler, counters, devices } = await this.#models.current().status();
    const { firstToken, betweenTokens } = this.#metrics.figures;
    const sample: LiveSample = {
      time: Date.now(),
      running: scheduler.running,
      waiting: scheduler.waiting,
      idle: scheduler.idle,
      pages: { free: scheduler.freePages[0] ?? 0, total: scheduler.totalPages[0] ?? 0 },
      promptTokens: counters.promptTokens,
      generatedTokens: counters.generatedTokens,
      firstToken,
      betweenTokens,
      devices,
    };
    this.#samples = [...this.#samples.slice(-(KEPT - 1)), sample];
    return sample;
  }

  /** @param time ms since 1970; samples after it, oldest first */
  since(time: number): readonly LiveSample[] {
    return this.#samples.filter((sample) => sample.time > time);
  }

  dispose(): void {
    clearInterval(this.#timer);
  }
}
