// The memories of a plan: one shared WebAssembly memory for each arena, exactly as large, taken
// once and never grown.

import type { StageLayout } from "../../memory/plan.js";
import type { RegionIndex } from "../../memory/regions.js";
import { CpuMemoryError } from "./errors.js";

const WASM_PAGE = 65536;

/** @throws {CpuMemoryError} when the system refuses one of them */
export function allocateArenas(stage: StageLayout): WebAssembly.Memory[] {
  return stage.arenas.map(({ bytes }) => {
    const pages = bytes / WASM_PAGE;
    try {
      return new WebAssembly.Memory({ initial: pages, maximum: pages, shared: true });
    } catch (error) {
      throw new CpuMemoryError(bytes, error);
    }
  });
}

/** Bytes of an arena that are idle while weights are loaded: its KV pools and its scratch, but for the control block. */
export function stagingArea(stage: StageLayout, regions: RegionIndex, arena: number): { at: number; bytes: number } {
  const idle = stage.regions.filter((region) => region.arena === arena && region.area !== "weights");
  const at = Math.min(...idle.map(({ offset }) => offset));
  return { at, bytes: regions.get("scratch.control", arena).offset - at };
}
