// Which layers share a page table, and how many pages each of their pools has. A layer that
// sees everything needs a page for every 256 tokens of the cache; one that looks back only
// `window` tokens drops pages as they fall out of sight, and never holds more than the window
// and the prefill chunk that is being written.

import type { LayerSpec, ModelSpec } from "../model/spec.js";
import type { RunShape } from "./packing.js";
import { type CacheGroup, PAGE_TOKENS } from "./plan.js";

/** Groups in the order of their reach: the whole context first, then windows, widest first. */
export function cacheGroups(spec: ModelSpec, run: RunShape): CacheGroup[] {
  return windowsOf(spec).map(({ window, layers }) => ({ window, layers, ...pagesFor(window, run) }));
}

interface LayersOfWindow {
  readonly window: number | null;
  readonly layers: readonly number[];
}

/** Of each model, which is not changed: found out once, for a planner asks hundreds of times. */
const known = new WeakMap<ModelSpec, readonly LayersOfWindow[]>();

function windowsOf(spec: ModelSpec): readonly LayersOfWindow[] {
  let windows = known.get(spec);
  if (!windows) {
    const layersOf = new Map<number | null, number[]>();
    for (const layer of spec.layers) {
      const window = layer.attention.window;
      const layers = layersOf.get(window);
      if (layers) layers.push(layer.index);
      else layersOf.set(window, [layer.index]);
    }
    windows = [...layersOf]
      .sort(([a], [b]) => (b ?? Number.POSITIVE_INFINITY) - (a ?? Number.POSITIVE_INFINITY))
      .map(([window, layers]) => ({ window, layers }));
    known.set(spec, windows);
  }
  return windows;
}

/** Tokens in one layer's pool: a multiple of the page size. */
export function poolTokens(layer: LayerSpec, run: RunShape): number {
  return pagesFor(layer.attention.window, run).pages * PAGE_TOKENS;
}

/** Pool pages, and the most that one sequence holds of them, for layers with this reach. */
function pagesFor(window: number | null, run: RunShape): { pages: number; pagesPerSequence: number } {
  const whole = Math.ceil(run.context / PAGE_TOKENS);
  const pool = Math.ceil(run.cacheTokens / PAGE_TOKENS);
  if (window === null) return { pages: pool, pagesPerSequence: whole };
  const prefilling = Math.ceil((window + run.prefillChunk) / PAGE_TOKENS);
  const decoding = Math.ceil((window - 1) / PAGE_TOKENS) + 1; // a window rarely begins on a page's border
  const pagesPerSequence = Math.min(whole, Math.max(prefilling, decoding));
  return { pages: Math.min(pool, pagesPerSequence * run.maxSequences), pagesPerSequence };
}
