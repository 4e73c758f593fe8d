// One engine for many plans and loads that are refused: an engine outlives every refusal, and holds no
// model until one is loaded. To start one for each takes ten times as long as what is asked.

import { Connection } from "../../src/engine/connection.js";
import { checkLoadOptions, checkPlanOptions } from "../../src/engine/options.js";
import { startProcess } from "../../src/engine/process-link.js";
import type { LoadOptions, PlanOptions } from "../../src/index.js";

export class AskedEngine {
  readonly #connection = new Connection(startProcess());

  /** As plan() asks its own engine. */
  async plan(path: string, options: PlanOptions): Promise<unknown> {
    return this.#connection.call({ op: "plan", path, options: checkPlanOptions(options).planOptions }).reply;
  }

  /** As loadModel() asks its own engine. */
  async load(path: string, options: LoadOptions): Promise<unknown> {
    return this.#connection.call({ op: "load", path, options: checkLoadOptions(options).engineOptions }).reply;
  }

  /** Resolves when its process is gone. */
  async end(): Promise<void> {
    this.#connection.kill();
    await this.#connection.ended;
  }
}
