// Failures of planning.

import { ExllamaError } from "../errors.js";
import type { PlanRefusal } from "./plan.js";
import { formatBytes } from "./size.js";
import { optionsFor } from "./suggestion-text.js";

/** There is no plan that keeps to the caps; thrown where a plan was needed. `details` is the refusal. */
export class PlanRefusedError extends ExllamaError {
  readonly refusal: PlanRefusal;

  constructor(refusal: PlanRefusal) {
    const options = optionsFor(refusal);
    const hint = options.length > 0 ? { hint: `what would fit: ${options.join(", or ")}` } : {};
    super(refusal.code, refusal.message, { ...hint, details: { ...refusal } });
    this.refusal = refusal;
  }
}

/** A piece that may not be cut (a layer with its cache, the head) is larger than one memory may be. */
export class ArenaTooSmallError extends ExllamaError {
  constructor(what: string, needed: number, most: number) {
    super("PLAN_ARENA_TOO_SMALL", `${what} needs ${formatBytes(needed)}, one memory holds at most ${formatBytes(most)}`, {
      hint: "a smaller context, prefill chunk or cache type makes it smaller",
      details: { what, needed, most },
    });
  }
}
