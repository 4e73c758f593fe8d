// The one place where sizes become places. layout() asks a packing how it stores each tensor
// and gives every buffer of a device's part of the model its offset; the planner sums the
// result, the loader allocates and fills it, the kernels address it. Nothing else allocates.
//
// One arena:   header | weights: embedding, layers, head | KV pools | scratch | rounding
//
// Beside the arenas, where a backend captures its steps, what the driver takes for them.
//
// The embedding lies in the stage's first arena, the head in its last, and every arena has a
// header and a scratch of its own. A backend whose arenas are bounded (a WebAssembly memory
// holds 4 GiB) gets several: whole layers, in order, each in the first arena with room.

import type { ModelSpec } from "../model/spec.js";
import { poolTokens } from "./cache-groups.js";
import { ArenaTooSmallError } from "./errors.js";
import type { Packing, RegionSize, RunShape, StageShape } from "./packing.js";
import type { ArenaLayout, Region, RegionArea, StageLayout } from "./plan.js";
import { roundUp } from "./size.js";

/** A device's part of a model: contiguous layers. Layer 0 brings the embedding, the last one the final norm and the head. */
export interface LayerRange {
  readonly first: number;
  readonly count: number;
}

/** What one arena holds; layers may be empty where only the embedding or only the head is left. */
interface ArenaContents {
  readonly first: number;
  readonly end: number;
  readonly embedding: boolean;
  readonly head: boolean;
}

/**
 * Places everything that one device holds. Pure: the same arguments give the same bytes.
 *
 * @throws {ArenaTooSmallError} when a layer with its cache and scratch is larger than `packing.maxArena`
 */
export function layout(spec: ModelSpec, range: LayerRange, run: RunShape, packing: Packing): StageLayout {
  const arenas: ArenaLayout[] = [];
  const regions: Region[] = [];
  const sums = { weights: 0, kvCache: 0, scratch: 0 };
  for (const contents of arenasOf(spec, range, run, packing)) {
    const placed = placeArena(spec, contents, run, packing, arenas.length);
    arenas.push({ bytes: placed.bytes, firstLayer: contents.first, layerCount: contents.end - contents.first });
    regions.push(...placed.regions);
    sums.weights += placed.weights;
    sums.kvCache += placed.kvCache;
    sums.scratch += placed.bytes - placed.weights - placed.kvCache;
  }
  const captured = capturedBytes(spec, range, run, packing);
  return { arenas, regions, ...sums, scratch: sums.scratch + captured, captured };
}

function capturedBytes(spec: ModelSpec, { first, count }: LayerRange, run: RunShape, packing: Packing): number {
  const { captured } = packing;
  if (!captured) return 0;
  const layers = spec.layers.slice(first, first + count);
  // Not rounded: stages of one card share the driver's pieces, and the last one begun is in the baseline's allowance.
  return layers.reduce((sum, layer) => sum + captured.layer(spec, layer, run), captured.stage(spec, run));
}

/** Whole layers first-fit, in order; see the drawing above. */
function arenasOf(spec: ModelSpec, range: LayerRange, run: RunShape, packing: Packing): ArenaContents[] {
  const end = range.first + range.count;
  const fits = (contents: ArenaContents) => placeArena(spec, contents, run, packing, 0).bytes <= packing.maxArena;
  const whole: ArenaContents = { first: range.first, end, embedding: range.first === 0, head: end === spec.layers.length };
  // Nearly always so; to try it layer by layer would place all of them as often as there are.
  if (packing.maxArena === Number.POSITIVE_INFINITY || fits(whole)) return [whole];
  const done: ArenaContents[] = [];
  let open: ArenaContents = { ...whole, end: range.first, head: false };
  for (let layer = range.first; layer < end; layer++) {
    const grown = { ...open, end: layer + 1 };
    if (fits(grown)) {
      open = grown;
      continue;
    }
    if (open.end > open.first || open.embedding) done.push(open);
    open = { first: layer, end: layer + 1, embedding: false, head: false };
  }
  if (whole.head && !fits({ ...open, head: true })) {
    done.push(open);
    open = { first: end, end, embedding: false, head: false };
  }
  return [...done, { ...open, end, head: whole.head }].map((contents) => checked(spec, contents, run, packing));
}

function checked(spec: ModelSpec, contents: ArenaContents, run: RunShape, packing: Packing): ArenaContents {
  const { bytes } = placeArena(spec, contents, run, packing, 0);
  if (bytes <= packing.maxArena) return contents;
  const what =
    contents.end > contents.first
      ? `layer ${contents.first} with its cache and scratch`
      : contents.head
        ? "the head"
        : "the embedding";
  throw new ArenaTooSmallError(what, bytes, packing.maxArena);
}

function placeArena(spec: ModelSpec, contents: ArenaContents, run: RunShape, packing: Packing, arena: number) {
  const layers = spec.layers.slice(contents.first, contents.end);
  const stage: StageShape = { layers, first: contents.embedding, last: contents.head };
  const embedding = contents.embedding && packing.embeddings === "device";
  const regions: Region[] = [];
  let offset = roundUp(packing.arenaHeader, packing.alignment);

  const place = (area: RegionArea, sizes: readonly RegionSize[]): number => {
    const begin = offset;
    for (const { name, bytes } of sizes) {
      regions.push({ area, name, arena, offset, bytes });
      offset += roundUp(bytes, packing.alignment);
    }
    return offset - begin;
  };

  let weights = embedding ? place("weights", packing.embedding(spec)) : 0;
  for (const layer of layers) weights += place("weights", packing.layer(spec, layer));
  if (contents.head) weights += place("weights", packing.head(spec, embedding && spec.tiedEmbeddings));
  let kvCache = 0;
  for (const layer of layers) kvCache += place("kvCache", packing.kv(layer, poolTokens(layer, run), run.cacheType));
  place("scratch", packing.scratch(spec, stage, run));
  return { regions, weights, kvCache, bytes: roundUp(offset, packing.granularity) };
}
