// A placement, written out: every listed device with its layout and its sums, or with the
// reason why nothing lies there.

import type { ModelSpec } from "../model/spec.js";
import { type LayerRange, layout } from "./layout.js";
import type { RunShape } from "./packing.js";
import type { Placement } from "./placement.js";
import type { PlacementEntry } from "./placement-problem.js";
import type { DevicePlan, StageLayout } from "./plan.js";
import type { PlanRequest, PlanSettings } from "./plan-request.js";
import type { CostTable } from "./run-costs.js";
import { formatBytes } from "./size.js";

export interface PlacedRequest {
  readonly request: PlanRequest;
  readonly settings: PlanSettings;
  readonly run: RunShape;
  readonly entries: readonly PlacementEntry[];
  readonly placement: Placement;
  readonly costs: CostTable;
}

export function planDevices(placed: PlacedRequest): DevicePlan[] {
  const { request, run, entries, placement } = placed;
  const paidCards = new Set<string>();
  let nextLayer = 0;
  return request.devices.map((device, index) => {
    const entry = entries[index];
    const count = placement.counts[index] ?? 0;
    const hasDraft = index === placement.draftEntry;
    const known = { id: device.id, card: device.card, cap: entry?.cap ?? 0, baselineSource: device.baselineSource };
    if (count === 0 && !hasDraft) return leftOut(known, whyEmpty(placed, index, paidCards.has(device.card)));
    const baseline = paidCards.has(device.card) ? 0 : device.baseline;
    paidCards.add(device.card);
    const range: LayerRange = { first: nextLayer, count };
    nextLayer += count;
    const stage = count > 0 ? layout(request.spec, range, run, request.packing) : null;
    const draft = hasDraft ? layout(request.draft!, wholeModel(request.draft!), run, request.packing) : null;
    const sums = { weights: 0, kvCache: 0, scratch: 0 };
    for (const part of [stage, draft]) if (part) addTo(sums, part);
    const total = baseline + sums.weights + sums.kvCache + sums.scratch;
    if (total !== placement.use[index])
      throw new Error(`${device.id}: placed with ${placement.use[index]} bytes, laid out with ${total}`);
    return { ...known, baseline, ...sums, total, headroom: known.cap - total, layers: range, excluded: null, stage, draft };
  });
}

function wholeModel(spec: ModelSpec): LayerRange {
  return { first: 0, count: spec.layers.length };
}

function addTo(sums: { weights: number; kvCache: number; scratch: number }, part: StageLayout): void {
  sums.weights += part.weights;
  sums.kvCache += part.kvCache;
  sums.scratch += part.scratch;
}

function leftOut(known: Pick<DevicePlan, "id" | "card" | "cap" | "baselineSource">, excluded: string): DevicePlan {
  const nothing = { baseline: 0, weights: 0, kvCache: 0, scratch: 0, total: 0, layers: { first: 0, count: 0 } };
  return { ...known, ...nothing, headroom: known.cap, excluded, stage: null, draft: null };
}

function whyEmpty({ settings, entries, placement, costs }: PlacedRequest, index: number, paid: boolean): string {
  const entry = entries[index];
  if (!entry) return `not in the split, which names the first ${entries.length} of the devices`;
  if (!paid && entry.cap <= entry.baseline)
    return `its cap of ${formatBytes(entry.cap)} does not exceed the ${formatBytes(entry.baseline)} taken before anything is placed`;
  const smallest = entry.baseline + smallestLayer(costs);
  if (!paid && smallest > entry.cap)
    return `its cap of ${formatBytes(entry.cap)} is below the ${formatBytes(smallest)} that one layer with its cache and scratch needs`;
  const used = placement.use.filter((use) => use > 0).length;
  const others = used === 1 ? "one other device holds" : `${used} other devices hold`;
  if (settings.splitMode === "fewest") return `not needed: ${others} the model and the context`;
  if (settings.splitMode === "fill") return `filled in list order, ${others} everything`;
  return "the largest share of a cap is smaller without it";
}

function smallestLayer(costs: CostTable): number {
  const width = Math.sqrt(costs.length);
  let smallest = Number.POSITIVE_INFINITY;
  for (let layer = 0; layer + 1 < width; layer++) smallest = Math.min(smallest, costs[layer * width + layer + 1]!);
  return smallest;
}
