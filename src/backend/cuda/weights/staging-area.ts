// Device memory that is idle while weights are loaded (KV pages and the step's buffers), handed
// out piece by piece for one tensor at a time.

import type { Stage } from "../steps/stage.js";
import { STAGING_ALIGNMENT } from "./linear-storage.js";

export class StagingArea {
  #at: bigint;
  readonly #end: bigint;

  constructor(at: bigint, end: bigint) {
    this.#at = at;
    this.#end = end;
  }

  /** From the first KV page to the flags behind the expanded slab: everything between weights and flags. */
  static of(stage: Stage): StagingArea {
    const begin = stage.layout.regions.find(({ area }) => area !== "weights")!.offset;
    return new StagingArea(stage.arena + BigInt(begin), stage.at("scratch.flags"));
  }

  /** Bytes left. */
  get room(): number {
    return Number(this.#end - this.#at);
  }

  /** A second view of what is left, whose pieces the first one knows nothing of. */
  fork(): StagingArea {
    return new StagingArea(this.#at, this.#end);
  }

  take(bytes: number): bigint {
    const rounded = Math.ceil(bytes / STAGING_ALIGNMENT) * STAGING_ALIGNMENT;
    if (bytes > this.room) throw new Error(`${bytes} bytes of staging are needed, the plan left ${this.room}`);
    const at = this.#at;
    this.#at += BigInt(rounded);
    return at;
  }
}
