// Where routes get their model from: the server may lose it (its engine can be killed) and load
// it again, so nobody keeps one longer than a request.

import type { Model } from "../engine/model.js";

export interface ModelSource {
  /** The name it is served under first, then its other names. */
  readonly names: readonly [string, ...string[]];
  /** When it was loaded first, s since 1970. */
  readonly created: number;
  /** The model, ready to answer. @throws {ModelReloadingError | ShuttingDownError} while there is none */
  current(): Model;
  /** A request on it failed: looks whether the model is to blame, and loads it again if its engine is gone. */
  failed(model: Model, error: unknown): void;
}
