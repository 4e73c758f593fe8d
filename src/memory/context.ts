// Which context a request gets, and what decided it. Chosen before the split, on all devices.

import type { Fitting } from "./fitting.js";
import type { CacheType } from "./packing.js";
import { AUTO_CONTEXT, CONTEXT_STEP, MOST_CONTEXT, type PlanRequest, type PlanSettings } from "./plan-request.js";

export interface ContextChoice {
  readonly context: number;
  /** False where not even this context fits: it is then the one to refuse with numbers. */
  readonly fits: boolean;
  /** What decided, in words; `null`: memory, and the caller finds out whose. */
  readonly bound: string | null;
}

/** Longest context that model and pool allow, whatever memory says. */
export function mostContext(request: PlanRequest, settings: PlanSettings): number {
  return Math.min(request.spec.contextLimit ?? MOST_CONTEXT, settings.cacheTokens ?? MOST_CONTEXT, MOST_CONTEXT);
}

export function chooseContext(request: PlanRequest, settings: PlanSettings, fitting: Fitting): ContextChoice {
  const { context, cacheType } = request;
  if (typeof context === "number") return { context, fits: fitting.fits(context, cacheType), bound: "--ctx" };
  const allowed = mostContext(request, settings);
  const wanted = context === "auto" ? Math.min(allowed, AUTO_CONTEXT) : allowed;
  if (wanted < MOST_CONTEXT && fitting.fits(wanted, cacheType)) {
    return { context: wanted, fits: true, bound: boundOf(request, settings, wanted) };
  }
  return withinMemory(fitting, cacheType, wanted);
}

function boundOf({ spec }: PlanRequest, { cacheTokens }: PlanSettings, context: number): string {
  if (context === spec.contextLimit) return "model limit";
  if (context === cacheTokens) return "--cache-tokens";
  return `automatic context of at most ${AUTO_CONTEXT} tokens`;
}

function withinMemory(fitting: Fitting, cacheType: CacheType, wanted: number): ContextChoice {
  const context = fitting.largestUpTo(wanted, cacheType);
  if (context === MOST_CONTEXT)
    return { context, fits: true, bound: `longest context that is looked at (${MOST_CONTEXT} tokens)` };
  if (context > 0) return { context, fits: true, bound: null };
  return { context: Math.min(wanted, CONTEXT_STEP), fits: false, bound: null };
}
