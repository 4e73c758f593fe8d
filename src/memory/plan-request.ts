// What planModel() is asked, and the same with every default filled in and every number
// checked. Numbers that cannot mean anything are usage errors; numbers that mean too much are
// left to the planner, which refuses them with the bytes.

import { UsageError } from "../errors.js";
import type { ModelSpec } from "../model/spec.js";
import type { CacheType, Packing, RunShape } from "./packing.js";
import { PAGE_TOKENS, type PlanDevice, type SplitMode } from "./plan.js";
import { roundUp } from "./size.js";

export interface PlanRequest {
  readonly spec: ModelSpec;
  readonly packing: Packing;
  readonly devices: readonly PlanDevice[];
  /** Most bytes per device, for the first devices of the list; `auto`: free memory − reserve, every device. */
  readonly caps: readonly number[] | "auto";
  /** Default: `even` with caps, `fewest` with `auto`. */
  readonly splitMode?: SplitMode;
  /** `auto`: min(model's limit, 8192, what fits); `max`: min(model's limit, what fits). */
  readonly context: number | "auto" | "max";
  readonly cacheType: CacheType;
  /** KV pool in tokens, rounded up to pages; default: the context. */
  readonly cacheTokens?: number;
  /** Default 1. */
  readonly maxSequences?: number;
  /** Default 256 on the CPU; on GPUs the largest of 2048, 1024, 512 and 256 with which the context fits. */
  readonly prefillChunk?: number;
  /** Draft model for speculation, placed whole on one device, with the same run shape. */
  readonly draft?: ModelSpec;
}

/** A request as plain data: crosses process borders and goes to the web page, which plans it anew with other wishes. */
export interface PlanRequestData extends Omit<PlanRequest, "packing"> {
  readonly packing: Packing["name"];
}

/** Contexts are searched and suggested in these steps. */
export const CONTEXT_STEP = PAGE_TOKENS;

/** Longest context that is looked at where memory is no limit (caches that a window bounds). */
export const MOST_CONTEXT = 2 ** 24;

/** `auto` goes no further, so that a long-context model does not fill a device by itself. */
export const AUTO_CONTEXT = 8192;

/** A bound on the planner's own work and memory; the largest known models have some 130 layers. */
const MOST_LAYERS = 1000;
const MOST_DEVICES = 256;

/**
 * Prefill chunks that may be chosen, the fastest first: scratch grows with the chunk, and memory
 * that only makes prompts faster must not keep a context from fitting.
 */
const CPU_CHUNKS = [256] as const;
const GPU_CHUNKS = [2048, 1024, 512, 256] as const;

/** A request's figures with defaults filled in. */
export interface PlanSettings {
  readonly splitMode: SplitMode;
  readonly maxSequences: number;
  /** What the prefill chunk may be, largest first: the one asked for, or those to choose from. */
  readonly prefillChunks: readonly [number, ...number[]];
  /** `null`: as large as the context. */
  readonly cacheTokens: number | null;
}

/** @throws {UsageError} naming the figure that means nothing, or does not go with another */
export function settingsOf(request: PlanRequest): PlanSettings {
  const { spec, caps, devices, context, cacheTokens } = request;
  if (devices.length === 0) throw new UsageError("there is no device to plan for", { hint: "name devices, such as 24GiB,24GiB" });
  if (devices.length > MOST_DEVICES) throw new UsageError(`${devices.length} devices`, { expected: `at most ${MOST_DEVICES}` });
  if (spec.layers.length > MOST_LAYERS)
    throw new UsageError(`a model of ${spec.layers.length} layers cannot be planned`, { expected: `at most ${MOST_LAYERS}` });
  if (caps !== "auto") checkCaps(caps, devices.length);
  if (typeof context === "number") checkCount("context", context, MOST_CONTEXT);
  if (cacheTokens !== undefined) checkCount("cache tokens", cacheTokens, MOST_CONTEXT * 256);
  if (typeof context === "number" && cacheTokens !== undefined && cacheTokens < context)
    throw new UsageError(`a context of ${context} tokens does not go into a cache of ${cacheTokens} tokens`, {
      hint: "make the cache at least as large as the context, or leave it out",
    });
  const { prefillChunk } = request;
  if (prefillChunk !== undefined) checkCount("prefill chunk", prefillChunk, 2 ** 16);
  const maxSequences = request.maxSequences ?? 1;
  checkCount("number of sequences", maxSequences, 2 ** 12);
  return {
    splitMode: request.splitMode ?? (caps === "auto" ? "fewest" : "even"),
    maxSequences,
    prefillChunks: prefillChunk === undefined ? (request.packing.name === "cuda" ? GPU_CHUNKS : CPU_CHUNKS) : [prefillChunk],
    cacheTokens: cacheTokens ?? null,
  };
}

/** The run shape for one context, with one of the prefill chunks; the pool never holds less than the context. */
export function runShape(settings: PlanSettings, context: number, cacheType: CacheType, prefillChunk: number): RunShape {
  const { cacheTokens, maxSequences } = settings;
  const pool = roundUp(Math.max(context, cacheTokens ?? 0), PAGE_TOKENS);
  return { context, cacheTokens: pool, cacheType, maxSequences, prefillChunk };
}

function checkCaps(caps: readonly number[], devices: number): void {
  if (caps.length === 0 || caps.length > devices)
    throw new UsageError(`${caps.length} caps for ${devices} devices`, {
      expected: "one per device, or fewer for the first ones",
    });
  const wrong = caps.find((cap) => !(Number.isSafeInteger(cap) && cap >= 0));
  if (wrong !== undefined) throw new UsageError(`a cap of ${wrong} bytes is not a size`, { expected: "whole bytes, 0 or more" });
}

function checkCount(what: string, value: number, most: number): void {
  if (Number.isInteger(value) && value >= 1 && value <= most) return;
  throw new UsageError(`a ${what} of ${value} means nothing`, { expected: `a whole number from 1 to ${most}` });
}
