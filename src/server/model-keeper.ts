// Keeps a model loaded. When its engine dies (killed, crashed, a driver error that poisoned its
// process) the answers in flight fail, and a fresh engine loads the same model: at once the first
// time, later and later where it dies again and again. Until then requests are refused with 503.

import type { Logger } from "pino";
import type { Model } from "../engine/model.js";
import { ModelReloadingError, ShuttingDownError } from "./errors.js";
import type { ModelSource } from "./model-source.js";

/** Wait before the second try, ms; doubled for each further one. */
const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 60_000;
/** A model that lived so long had no trouble loading: the next wait begins small again, ms. */
const SETTLED_MS = 60_000;
/** How often an idle engine is looked after, ms. */
const HEARTBEAT_MS = 2_000;

const DEATHS = new Set(["ENGINE_DIED", "CUDA_POISONED", "CPU_RUNTIME_ENDED", "CUDA_RUNTIME_ENDED"]);

export interface KeeperOptions {
  readonly names: readonly [string, ...string[]];
  /** Loads the model anew, with the options it was loaded with first. */
  readonly load: (signal: AbortSignal) => Promise<Model>;
  readonly log: Logger;
}

type State =
  | { readonly name: "ready"; readonly model: Model; readonly since: number }
  | { readonly name: "reloading"; readonly reason: string; readonly readyAt: number }
  | { readonly name: "closed" };

export class ModelKeeper implements ModelSource {
  readonly names: readonly [string, ...string[]];
  readonly created = Math.floor(Date.now() / 1000);
  /** How often an engine was lost. */
  deaths = 0;
  readonly #load: KeeperOptions["load"];
  readonly #log: Logger;
  readonly #stop = new AbortController();
  #state: State;
  #failures = 0;
  #reloading: Promise<void> | null = null;
  readonly #heartbeat: NodeJS.Timeout;
  /** An engine that is busy for long is asked once, not again and again. */
  #beating = false;

  /** @param model loaded already: a server that cannot load its model does not begin to listen */
  constructor(model: Model, { names, load, log }: KeeperOptions) {
    this.names = names;
    this.#load = load;
    this.#log = log;
    this.#state = { name: "ready", model, since: performance.now() };
    this.#heartbeat = setInterval(() => void this.#beat(), HEARTBEAT_MS).unref();
  }

  get ready(): boolean {
    return this.#state.name === "ready";
  }

  current(): Model {
    const state = this.#state;
    if (state.name === "ready") return state.model;
    if (state.name === "closed") throw new ShuttingDownError();
    throw new ModelReloadingError(state.reason, Math.max(1, (state.readyAt - performance.now()) / 1000));
  }

  failed(model: Model, error: unknown): void {
    const code = (error as { code?: unknown } | null)?.code;
    if (typeof code !== "string" || !DEATHS.has(code)) return;
    if (this.#state.name !== "ready" || this.#state.model !== model) return;
    this.deaths += 1;
    this.#log.error({ err: { code, message: (error as Error).message } }, "the engine ended; loading the model again");
    if (performance.now() - this.#state.since > SETTLED_MS) this.#failures = 0;
    this.#reloading = this.#reload(model, "its engine ended");
  }

  /** Gives the model back; a load that is under way is ended. Idempotent. */
  async close(): Promise<void> {
    clearInterval(this.#heartbeat);
    const state = this.#state;
    this.#state = { name: "closed" };
    this.#stop.abort(new ShuttingDownError());
    await this.#reloading;
    if (state.name === "ready") await state.model.dispose();
  }

  async #reload(dead: Model, reason: string): Promise<void> {
    let disposal: Promise<void> | null = dead.dispose();
    for (;;) {
      const wait = this.#failures === 0 ? 0 : Math.min(LONGEST_WAIT_MS, FIRST_WAIT_MS * 2 ** (this.#failures - 1));
      this.#failures += 1;
      this.#state = { name: "reloading", reason, readyAt: performance.now() + wait + 2000 };
      try {
        await disposal;
        disposal = null;
        await sleep(wait, this.#stop.signal);
        const model = await this.#load(this.#stop.signal);
        if (this.#stop.signal.aborted) return await model.dispose();
        this.#state = { name: "ready", model, since: performance.now() };
        this.#log.info({ attempts: this.#failures }, "the model is loaded again");
        return;
      } catch (error) {
        if (this.#stop.signal.aborted) return;
        disposal = null;
        this.#log.error(
          { err: { message: (error as Error).message }, attempt: this.#failures },
          "loading the model again failed",
        );
      }
    }
  }

  async #beat(): Promise<void> {
    if (this.#state.name !== "ready" || this.#beating) return;
    const { model } = this.#state;
    this.#beating = true;
    try {
      await model.detokenize([]);
    } catch (error) {
      this.failed(model, error);
    } finally {
      this.#beating = false;
    }
  }
}

function sleep(milliseconds: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const end = () => {
      clearTimeout(timer);
      reject(signal.reason);
    };
    const timer = setTimeout(() => {
      signal.removeEventListener("abort", end);
      resolve();
    }, milliseconds);
    signal.addEventListener("abort", end, { once: true });
    if (signal.aborted) end();
  });
}
