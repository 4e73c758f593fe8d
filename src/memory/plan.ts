// The plan: who holds what, at which offset, and what it costs in bytes, for the whole life
// of a loaded model. Plain data: it crosses process borders, goes into --json and is drawn
// by the web page.

import type { CacheType, RunShape } from "./packing.js";

/** Tokens of one KV page. */
export const PAGE_TOKENS = 256;

export type SplitMode = "even" | "fewest" | "fill";

/** A device as the planner sees it; sizes in bytes. */
export interface PlanDevice {
  /** As the user knows it: `cuda:0`, `cpu`, or the name given on the command line. */
  readonly id: string;
  /** Entries with the same card share one context: its baseline is charged once, to the first used entry. */
  readonly card: string;
  readonly total: number;
  /** Bytes that other processes take now. */
  readonly usedByOthers: number;
  /** What the driver (or, on the CPU, the engine itself) takes before the arena. */
  readonly baseline: number;
  readonly baselineSource: "table" | "calibrated" | "measured";
  /** Kept free when caps are automatic, bytes. */
  readonly reserve: number;
}

/** Layers with the same reach share one page table: group 0 sees everything unless every layer is windowed. */
export interface CacheGroup {
  /** `null`: whole context. */
  readonly window: number | null;
  /** Indices of the layers in it. */
  readonly layers: readonly number[];
  /** Pages in the pool of each of its layers. */
  readonly pages: number;
  /** Pages that one sequence can hold at most. */
  readonly pagesPerSequence: number;
}

export type RegionArea = "weights" | "kvCache" | "scratch";

/** A named piece of an arena. */
export interface Region {
  readonly area: RegionArea;
  readonly name: string;
  /** Index into the stage's arenas. */
  readonly arena: number;
  /** Bytes from the arena's beginning. */
  readonly offset: number;
  readonly bytes: number;
}

/** Layers `firstLayer` … `firstLayer + layerCount − 1` lie whole in one arena. */
export interface ArenaLayout {
  /** Exactly what is allocated. */
  readonly bytes: number;
  readonly firstLayer: number;
  readonly layerCount: number;
}

/** What layout() says of one device's part of the model. */
export interface StageLayout {
  readonly arenas: readonly ArenaLayout[];
  readonly regions: readonly Region[];
  /** Bytes of each area, alignment included; rounding of the arenas, their headers and `captured` are in `scratch`. */
  readonly weights: number;
  readonly kvCache: number;
  readonly scratch: number;
  /** What the driver may take for captured steps: in no arena. */
  readonly captured: number;
}

export interface DevicePlan {
  readonly id: string;
  readonly card: string;
  /** Most that this process may take here, everything included. */
  readonly cap: number;
  readonly baseline: number;
  readonly baselineSource: PlanDevice["baselineSource"];
  readonly weights: number;
  readonly kvCache: number;
  readonly scratch: number;
  /** baseline + weights + kvCache + scratch; 0 for a device that is left out. */
  readonly total: number;
  /** cap − total. */
  readonly headroom: number;
  readonly layers: { readonly first: number; readonly count: number };
  /** Why nothing lies here, or `null`. */
  readonly excluded: string | null;
  /** `null` for a device that is left out. */
  readonly stage: StageLayout | null;
  /** The draft model's part, counted in weights, kvCache and scratch above. */
  readonly draft: StageLayout | null;
}

/** An adapter that is loaded beside the weights. */
export interface PlannedAdapter {
  readonly name: string;
  /** The largest of its linears. */
  readonly rank: number;
}

export interface Plan {
  readonly ok: true;
  readonly packing: string;
  readonly splitMode: SplitMode;
  readonly run: RunShape;
  /** = run.context */
  readonly context: number;
  /** Largest context that would fit in memory, layers placed anew for each cache type; 0 where none fits. */
  readonly largestContext: Readonly<Record<"f16" | "q8" | "q4", number>>;
  readonly devices: readonly DevicePlan[];
  readonly cacheGroups: readonly CacheGroup[];
  /** In the order of their indices; counted in the weights of the devices. Missing where there are none. */
  readonly adapters?: readonly PlannedAdapter[];
  /** What limits this plan, in words: `cuda:1 memory`, `model limit`, `--ctx`, … */
  readonly binding: string;
  /** Remarks a person should read (a baseline from the table, embeddings on the host, …). */
  readonly notes: readonly string[];
}

export interface PlanSuggestion {
  readonly change: "ctx" | "cache" | "gpuSplit";
  /** ctx: tokens; cache: a cache type; gpuSplit: bytes per device. */
  readonly value: number | CacheType | readonly number[];
}

/** Why there is no plan; also the `details` of PlanRefusedError. */
export interface PlanRefusal {
  readonly ok: false;
  readonly code: string;
  readonly message: string;
  /** The worst overshoot in the placement that minimises it. */
  readonly device: string | null;
  readonly cap: number | null;
  readonly needed: number | null;
  readonly shortfall: number | null;
  readonly suggestions: readonly PlanSuggestion[];
  readonly largestContext: Readonly<Record<"f16" | "q8" | "q4", number>>;
  /** Per listed device, in order, for the placement that comes closest. */
  readonly devices: readonly { readonly id: string; readonly cap: number; readonly needed: number }[];
}
