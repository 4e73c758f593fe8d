// What the driver keeps of captured steps, as pure numbers. A graph that can be launched lies on the
// card: every launch in it takes some bytes beside the arena, and a model has a graph for every size of
// decode step. The planner counts them; the runtime captures no more than was counted, and launches
// the steps for which that is not enough one kernel at a time.
//
// On an H100 (driver 580) 990 launches of a 7B model took 2 MiB, graphs with many products of tiles, whose
// parameters hold tensor maps, 2.9 to 3.2 KiB a launch; taken in pieces of 2 MiB.

import type { CapturedSize, RunShape } from "../../../memory/packing.js";
import type { LayerSpec, LinearSpec, ModelSpec } from "../../../model/spec.js";
import { MOST_BATCHED } from "../linears/batch-launch.js";
import { LEAST_WGMMA_BATCHED } from "../linears/batch-launch-wgmma.js";
import { MOST_STREAMED, MOST_STREAMED_ROWS } from "../linears/linear-launch.js";
import { layerLinears } from "../weights/layer-parts.js";
import { expandedBytes, mayPermute, storageOf } from "../weights/linear-storage.js";
import { decodeBuckets, stepTokens } from "./step-shape.js";

/** Of one launch in a graph, rounded up. */
const LAUNCH_BYTES = 4096;
/** Embeddings, angles; final norm, head in two launches, facts, choice, where norm, head and facts are not one. */
const LAUNCHES_AROUND = 8;
/** Two norms, attention, silu. */
const LAUNCHES_BESIDE = 4;
/** Two for each of q, k and v; o; gate and up; down. */
const ADAPTER_LAUNCHES = 8;

export const capturedSize: CapturedSize = {
  layer: (spec, layer, run) => perBucket(spec, run, (rows, adapted) => layerLaunches(layer, run, rows, adapted)),
  stage: (spec, run) => perBucket(spec, run, () => LAUNCHES_AROUND),
};

/** @returns bytes */
export function capturedBytes(launches: number): number {
  return launches * LAUNCH_BYTES;
}

function perBucket(spec: ModelSpec, run: RunShape, launches: (rows: number, adapted: boolean) => number): number {
  const kinds = spec.adapters ? [false, true] : [false];
  const all = decodeBuckets(run).flatMap((rows) => kinds.map((adapted) => launches(rows, adapted)));
  return capturedBytes(all.reduce((sum, each) => sum + each, 0));
}

/** At least as many launches as a layer of a decode step takes, on any card whose blocks have 96 KB of shared memory. */
function layerLaunches(layer: LayerSpec, run: RunShape, rows: number, adapted: boolean): number {
  const linears = linearGroups(layer).reduce((sum, group) => sum + groupLaunches(group, run, rows), 0);
  return LAUNCHES_BESIDE + linears + (adapted ? ADAPTER_LAUNCHES : 0);
}

/** A layer's linears, those together that read the same x. */
function linearGroups(layer: LayerSpec): LinearSpec[][] {
  const { mlp, attention } = layer;
  if (mlp.kind === "moe") return layerLinears(layer).map(([, linear]) => [linear]);
  return [[attention.q, attention.k, attention.v], [attention.o], [mlp.gate, mlp.up], [mlp.down]];
}

/** A launch from one attention to the next, where there is one, takes the place of more than it is. */
function groupLaunches(group: readonly LinearSpec[], run: RunShape, rows: number): number {
  const counted = rows <= MOST_STREAMED && surelyTogether(group) ? group.slice(0, 1) : group;
  return counted.reduce((sum, linear) => sum + linearLaunches(linear, run, rows), 0);
}

/** One launch takes them as run-linear.ts would, whatever the weights turn out to be. */
function surelyTogether([first, ...others]: readonly LinearSpec[]): boolean {
  const storage = storageOf(first!);
  if (storage.kind !== "quantized" || mayPermute(first!)) return false;
  return others.every((other) => {
    const its = storageOf(other);
    const alike = its.kind === "quantized" && its.format.bits === storage.format.bits && its.group === storage.group;
    return alike && other.in === first!.in && !mayPermute(other);
  });
}

function linearLaunches(linear: LinearSpec, run: RunShape, rows: number): number {
  if (storageOf(linear).kind === "half") return 1;
  const gathered = mayPermute(linear) ? 1 : 0;
  // Pieces and their sums; a card or a format without these kernels goes one of the other ways.
  const batched = rows < LEAST_WGMMA_BATCHED || rows > MOST_BATCHED ? 0 : 2 + gathered;
  if (rows <= MOST_STREAMED) return Math.max(batched, Math.ceil(rows / MOST_STREAMED_ROWS));
  const slabs = Math.ceil((linear.out * linear.in * 2) / expandedBytes(linear, stepTokens(run)));
  return Math.max(batched, 2 * slabs + gathered);
}
