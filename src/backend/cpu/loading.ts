// Filling the arenas: every tensor of the model into its region, through the buffers that are
// idle until the first step. What only contents can show is checked on the way: infinities
// and NaN, groups that do not exist.

import type { Dtype, TensorInfo } from "../../checkpoint/checkpoint.js";
import type { StageLayout } from "../../memory/plan.js";
import type { RegionIndex } from "../../memory/regions.js";
import type { LinearSpec, ModelSpec, NormSpec } from "../../model/spec.js";
import { stagingArea } from "./arena-memory.js";
import { CpuLoadError, NonFiniteTensorError } from "./errors.js";
import { PLAIN_BYTES } from "./exact-layout.js";
import { ValueKind } from "./kernels.js";
import { layerLinears, layerNorms } from "./packing.js";
import type { Team } from "./team.js";
import type { TensorReader } from "./tensor-reader.js";

/** How a mode stores linears. */
export type LinearLoader = (target: LinearTarget) => Promise<void>;

export interface LinearTarget {
  readonly linear: LinearSpec;
  /** Its regions begin with this. */
  readonly name: string;
  /** Tensor of a plain linear's weights: for tied embeddings the embedding's. */
  readonly weightTensor: string;
  readonly arena: number;
}

export interface LoadSite {
  readonly spec: ModelSpec;
  readonly stage: StageLayout;
  readonly regions: RegionIndex;
  readonly memories: readonly WebAssembly.Memory[];
  readonly team: Team;
  readonly reader: TensorReader;
}

const PLAIN_KIND: Partial<Record<Dtype, "f16" | "bf16" | "f32">> = { F16: "f16", BF16: "bf16", F32: "f32" };

/** Loads everything. What was taken is given back by the caller if this fails. */
export async function loadWeights(site: LoadSite, loadLinear: LinearLoader): Promise<void> {
  const { spec, regions } = site;
  const embedding = regions.find("embedding.rows");
  const headTensor = spec.tiedEmbeddings ? spec.embedding.tensor : `${spec.head.name}.weight`;
  if (embedding) await loadEmbedding(site);
  for (const name of ["embedding", "head"]) {
    const region = regions.find(`${name}.weights`);
    if (region) await loadLinear({ linear: spec.head, name, weightTensor: headTensor, arena: region.arena });
  }
  for (const layer of spec.layers) {
    for (const [name, norm] of layerNorms(layer)) await loadNorm(site, name, norm);
    for (const [name, linear] of layerLinears(layer)) {
      const { arena } = regions.get(`${name}.weights`);
      await loadLinear({ linear, name, weightTensor: `${linear.name}.weight`, arena });
    }
  }
  await loadNorm(site, "finalNorm", spec.finalNorm);
}

/** Nothing of what passed through is left: a step's buffers begin as zeros. Pages that were never touched stay so. */
export function clearStaging({ stage, regions, memories, reader }: LoadSite): void {
  memories.forEach(({ buffer }, arena) => {
    const { at } = stagingArea(stage, regions, arena);
    const end = reader.end(buffer);
    if (end > at) new Uint8Array(buffer, at, end - at).fill(0);
  });
}

/** Bytes of every tensor that loadWeights() will read. */
export function weightBytes(spec: ModelSpec, tensors: ReadonlyMap<string, TensorInfo>): number {
  const bytes = (name: string) => tensors.get(name)?.bytes ?? 0;
  const linear = ({ name, format, bias }: LinearSpec) =>
    (format.kind === "plain"
      ? bytes(`${name}.weight`)
      : bytes(`${name}.qweight`) +
        bytes(`${name}.qzeros`) +
        bytes(`${name}.scales`) +
        (format.gIdx ? bytes(`${name}.g_idx`) : 0)) + (bias ? bytes(`${name}.bias`) : 0);
  let sum = bytes(spec.embedding.tensor) + bytes(spec.finalNorm.tensor);
  if (!spec.tiedEmbeddings) sum += linear(spec.head);
  for (const layer of spec.layers) {
    for (const [, norm] of layerNorms(layer)) sum += bytes(norm.tensor);
    for (const [, of] of layerLinears(layer)) sum += linear(of);
  }
  return sum;
}

async function loadEmbedding(site: LoadSite): Promise<void> {
  const { spec, regions, memories, reader } = site;
  const region = regions.get("embedding.rows");
  const tensor = reader.find(spec.embedding.tensor, region.bytes);
  await reader.read(tensor, 0, region.bytes, memories[region.arena]!.buffer, region.offset);
  await checkFinite(site, tensor, region.arena, region.offset, spec.vocabSize * spec.hiddenSize);
}

async function loadNorm(site: LoadSite, name: string, norm: NormSpec): Promise<void> {
  const { arena, offset } = site.regions.get(name);
  await loadValues(site, norm.tensor, norm.size, arena, offset);
}

/** A small vector of plain values → f32 at `to`. */
export async function loadValues(site: LoadSite, name: string, count: number, arena: number, to: number): Promise<void> {
  const kind = plainKind(site, name);
  const tensor = site.reader.find(name, count * PLAIN_BYTES[kind]);
  const { at } = stagingArea(site.stage, site.regions, arena);
  await site.reader.read(tensor, 0, tensor.bytes, site.memories[arena]!.buffer, at);
  await checkFinite(site, tensor, arena, at, count);
  await site.team.job({ kind: "widen", arena, from: at, to, count, value: ValueKind[kind] });
}

/** @throws {NonFiniteTensorError} when one of `count` values at byte `at` is an infinity or NaN; `first` is the index of the first of them */
export async function checkFinite(
  site: LoadSite,
  tensor: TensorInfo,
  arena: number,
  at: number,
  count: number,
  first = 0,
): Promise<void> {
  const value = ValueKind[plainKind(site, tensor.name)];
  const found = await site.team.job({ kind: "check", arena, at, count, value });
  const bad = found.filter((index) => index >= 0);
  if (bad.length > 0) throw new NonFiniteTensorError(tensor.name, first + Math.min(...bad));
}

function plainKind(site: LoadSite, name: string): "f16" | "bf16" | "f32" {
  const dtype = site.reader.dtype(name);
  const kind = PLAIN_KIND[dtype];
  if (!kind) throw new CpuLoadError(`${name} is ${dtype}, which the CPU backend cannot read as numbers`);
  return kind;
}
