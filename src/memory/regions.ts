// Finding a buffer by its name, for loaders and kernels.

import type { Region, StageLayout } from "./plan.js";

/** The regions of one stage by name, per arena: scratch buffers of one name lie in every arena. */
export class RegionIndex {
  readonly #byArena: readonly ReadonlyMap<string, Region>[];

  constructor(stage: StageLayout) {
    const maps = stage.arenas.map(() => new Map<string, Region>());
    for (const region of stage.regions) {
      const map = maps[region.arena]!;
      if (map.has(region.name)) throw new Error(`two regions of arena ${region.arena} are named ${region.name}`);
      map.set(region.name, region);
    }
    this.#byArena = maps;
  }

  /** The region of this name, or `null`. Without an arena: in the first that has one. */
  find(name: string, arena?: number): Region | null {
    if (arena !== undefined) return this.#byArena[arena]?.get(name) ?? null;
    for (const map of this.#byArena) {
      const region = map.get(name);
      if (region) return region;
    }
    return null;
  }

  /** As find(), for a region that the packing always makes: its absence is a defect of this program. */
  get(name: string, arena?: number): Region {
    const region = this.find(name, arena);
    if (!region) throw new Error(`the layout has no region ${name}${arena === undefined ? "" : ` in arena ${arena}`}`);
    return region;
  }
}

/** Index of the arena that holds this layer. */
export function arenaOfLayer(stage: StageLayout, layer: number): number {
  const arena = stage.arenas.findIndex(({ firstLayer, layerCount }) => layer >= firstLayer && layer < firstLayer + layerCount);
  if (arena < 0) throw new Error(`layer ${layer} does not lie in this stage`);
  return arena;
}
