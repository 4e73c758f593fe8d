// What one layer runs: its linears, grouped by what they read, its attention, and where everything
// lies. Made once by every worker, over its own instance of the kernels.

import type { RunShape } from "../../memory/packing.js";
import type { StageLayout } from "../../memory/plan.js";
import { arenaOfLayer, type RegionIndex } from "../../memory/regions.js";
import type { LayerSpec, LinearSpec, ModelSpec } from "../../model/spec.js";
import { AdapterGroup } from "./adapter-group.js";
import { Attention } from "./attention.js";
import type { Kernels } from "./kernels.js";
import { LinearGroup } from "./linear-group.js";
import type { LinearKernel } from "./linear-kernel.js";
import { partialBytes, projectionPlaces, stepTokens, threadPlaces } from "./scratch.js";

/** One arena, as one worker sees it. */
export interface ArenaAccess {
  readonly kernels: Kernels;
  readonly memory: WebAssembly.Memory;
}

/** What a worker runs steps with. */
export interface ProgramParts {
  readonly spec: ModelSpec;
  readonly run: RunShape;
  readonly stage: StageLayout;
  /** Windows of the cache groups, in the plan's order. */
  readonly windows: readonly (number | null)[];
  readonly arenas: readonly ArenaAccess[];
  readonly threads: number;
  /** How often a thread looks for the others before it sleeps. */
  readonly waitTurns: number;
  /** Everything is f32. */
  readonly exact: boolean;
  /** Of this worker, 0 … threads − 1. */
  readonly index: number;
  /** The kernel of a linear whose regions begin with `name`. */
  linear(name: string, linear: LinearSpec, arena: number): LinearKernel;
  /** Writes an embedding row to f32 at `to`, in the arena of the embedding. */
  readonly embed: (id: number, to: number) => void;
}

export interface LayerProgram {
  readonly arena: number;
  readonly spec: LayerSpec;
  readonly inputNorm: number;
  readonly postNorm: number;
  readonly attention: Attention;
  readonly projections: { q: number; k: number; v: number; gate: number; up: number };
  readonly qkv: LinearGroup;
  readonly qkvOut: readonly number[];
  readonly o: LinearGroup;
  readonly deltaOut: readonly number[];
  readonly gateUp: LinearGroup;
  readonly gateUpOut: readonly number[];
  readonly down: LinearGroup;
  /** What a step with adapters does more; `null`: no adapter changes this layer. */
  readonly adapters: LayerAdapters | null;
}

export type LayerAdapters = Readonly<Record<"qkv" | "o" | "gateUp" | "down", AdapterGroup>>;

export function layerProgram(parts: ProgramParts, regions: RegionIndex, layer: LayerSpec): LayerProgram {
  const { spec, run, stage, windows, arenas, index } = parts;
  const arena = arenaOfLayer(stage, layer.index);
  const at = `layers.${layer.index}`;
  const offset = (name: string) => regions.get(name, arena).offset;
  const optional = (name: string) => regions.find(name, arena)?.offset ?? 0;
  const base = offset("scratch.projections");
  const places = projectionPlaces(layer, stepTokens(run));
  const projections = {
    q: base + places.q,
    k: base + places.k,
    v: base + places.v,
    gate: base + places.gate,
    up: base + places.up,
  };
  const { attention, mlp } = layer;
  if (mlp.kind !== "gated") throw new Error(`layer ${layer.index} of ${spec.architecture} is no gated one`);
  const thread = offset("scratch.threads") + index * threadPlaces(attention).bytes;
  const attend = new Attention(
    arenas[arena]!.kernels,
    attention,
    {
      ...projections,
      rope: offset("scratch.rope"),
      keys: offset(`${at}.kv.keys`),
      values: offset(`${at}.kv.values`),
      qNorm: optional(`${at}.attention.qNorm`),
      kNorm: optional(`${at}.attention.kNorm`),
      thread,
      partials: offset("scratch.partials"),
      partialPages: Math.floor(
        regions.get("scratch.partials", arena).bytes / (attention.heads * partialBytes(attention.headDim)),
      ),
    },
    windows.indexOf(attention.window),
    run.cacheType,
  );
  const activations = optional("scratch.activations");
  const group = (...linears: [name: string, linear: LinearSpec][]) =>
    new LinearGroup(
      linears.map(([name, linear]) => parts.linear(`${at}.${name}`, linear, arena)),
      activations,
      stepTokens(run),
    );
  return {
    arena,
    spec: layer,
    inputNorm: offset(`${at}.inputNorm`),
    postNorm: offset(`${at}.postAttentionNorm`),
    attention: attend,
    projections,
    qkv: group(["attention.q", attention.q], ["attention.k", attention.k], ["attention.v", attention.v]),
    qkvOut: [projections.q, projections.k, projections.v],
    o: group(["attention.o", attention.o]),
    deltaOut: [offset("scratch.delta")],
    gateUp: group(["mlp.gate", mlp.gate], ["mlp.up", mlp.up]),
    gateUpOut: [projections.gate, projections.up],
    down: group(["mlp.down", mlp.down]),
    adapters: layerAdapters(parts, regions, layer, arena),
  };
}

function layerAdapters(parts: ProgramParts, regions: RegionIndex, layer: LayerSpec, arena: number): LayerAdapters | null {
  const { attention, mlp } = layer;
  if (mlp.kind !== "gated") return null;
  const t = regions.find("scratch.adapters", arena);
  if (!t) return null;
  const { memory } = parts.arenas[arena]!;
  const offset = (name: string) => regions.find(`layers.${layer.index}.${name}`, arena)?.offset ?? 0;
  const group = (...linears: [name: string, spec: LinearSpec][]) =>
    new AdapterGroup(
      parts.arenas[arena]!.kernels,
      linears.map(([name, spec]) => ({
        spec,
        a: offset(`${name}.adapters.a`),
        b: offset(`${name}.adapters.b`),
        units: new Float32Array(memory.buffer, offset(`${name}.adapters.units`), spec.adapterRanks?.length ?? 0).slice(),
      })),
      t.offset,
      !parts.exact,
    );
  return {
    qkv: group(["attention.q", attention.q], ["attention.k", attention.k], ["attention.v", attention.v]),
    o: group(["attention.o", attention.o]),
    gateUp: group(["mlp.gate", mlp.gate], ["mlp.up", mlp.up]),
    down: group(["mlp.down", mlp.down]),
  };
}
