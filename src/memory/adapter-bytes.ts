// What loaded adapters take: the regions that packings make for them beside the linears.

import type { StageLayout } from "./plan.js";

/** Begins the last parts of their names: `layers.3.attention.q.adapters.a`. */
const PART = /\.adapters\.\w+$/;

/** Bytes of a stage's adapters; they are part of its weights. */
export function adapterBytes(stage: StageLayout | null): number {
  return stage?.regions.reduce((sum, { name, bytes }) => (PART.test(name) ? sum + bytes : sum), 0) ?? 0;
}
