// How the CUDA backend stores a model, in bytes: no device, no weights, only arithmetic, so
// that a plan for a card can be made anywhere. The kernels read exactly these layouts.
//
// Quantised linear, codes of `bits` each: rows padded to tiles of 16, columns (k) to 64. A tile
// row is cut into superblocks of 16 × 1024 k (the last one shorter): codes, then f16 scales and
// zero points of the groups it touches, contiguous so that one bulk copy fetches all of it; 4
// bits at g128: 8192 B + 256 B + 64 B. Zero points always have room: whether they are all
// symmetric only the contents show. Plain linear: the same tiles in 16-bit numbers.
//
// q, k, v and gate, up each share one region where their formats agree: their rows are
// interleaved so that RoPE pairs and gate/up pairs meet in one lane. That moves bytes, it
// does not change how many there are.

import { cacheGroups } from "../../memory/cache-groups.js";
import type { CacheType, Packing, RegionSize, RunShape, StageShape } from "../../memory/packing.js";
import { KiB, MiB, roundUp } from "../../memory/size.js";
import type {
  AttentionSpec,
  GatedMlpSpec,
  GptqFormat,
  LayerSpec,
  LinearSpec,
  ModelSpec,
  NormSpec,
  PlainFormat,
} from "../../model/spec.js";

const TILE_ROWS = 16;
const TILE_COLUMNS = 64;
const SUPERBLOCK_COLUMNS = 1024;
/** A bulk copy moves multiples of 16 bytes. */
const COPY_UNIT = 16;

/** Bits of a stored zero point: as the codes, but whole nibbles for 3-bit ones. */
const ZERO_BITS = { 2: 2, 3: 4, 4: 4, 8: 8 } as const;

/** Most pieces that one sequence's attention is cut into while decoding; their results are combined afterwards. */
const ATTENTION_SPLITS = 32;

/** Largest piece of a linear that is dequantised at once while prefilling: it stays in the L2 cache. */
const DEQUANT_SLAB = 24 * MiB;

/** Token ids, positions, sampler state, stop flags, ring indices and the semaphores of split tiles. */
const CONTROL_BYTES = 64 * KiB;

export const cudaPacking: Packing = {
  name: "cuda",
  alignment: 256,
  granularity: 2 * MiB,
  maxArena: Number.POSITIVE_INFINITY,
  arenaHeader: 0,
  embeddings: "host",
  cacheTypes: ["f16", "q8", "q4"],
  layer: layerRegions,
  kv: kvRegions,
  embedding: () => [],
  head: (spec) => [...normRegion("head.norm", spec.finalNorm), ...linearRegions("head", [spec.head])],
  scratch: scratchRegions,
};

function layerRegions(_: ModelSpec, layer: LayerSpec): RegionSize[] {
  const prefix = `layers.${layer.index}`;
  return [
    ...normRegion(`${prefix}.inputNorm`, layer.inputNorm),
    ...attentionRegions(`${prefix}.attention`, layer.attention),
    ...normRegion(`${prefix}.postAttentionNorm`, layer.postAttentionNorm),
    ...mlpRegions(`${prefix}.mlp`, layer.mlp),
  ];
}

function attentionRegions(prefix: string, { q, k, v, o, qNorm, kNorm }: AttentionSpec): RegionSize[] {
  return [
    ...fusedRegions(prefix, { q, k, v }),
    ...(qNorm ? normRegion(`${prefix}.qNorm`, qNorm) : []),
    ...(kNorm ? normRegion(`${prefix}.kNorm`, kNorm) : []),
    ...linearRegions(`${prefix}.o`, [o]),
  ];
}

function mlpRegions(prefix: string, mlp: LayerSpec["mlp"]): RegionSize[] {
  if (mlp.kind === "gated") return gatedRegions(prefix, mlp);
  const experts = mlp.experts.flatMap((expert, index) => gatedRegions(`${prefix}.experts.${index}`, expert));
  return [...linearRegions(`${prefix}.router`, [mlp.router]), ...experts];
}

function gatedRegions(prefix: string, { gate, up, down }: GatedMlpSpec): RegionSize[] {
  return [...fusedRegions(prefix, { gate, up }), ...linearRegions(`${prefix}.down`, [down])];
}

/** One region for linears that share input and format (`attention.q_k_v`), else one each. */
function fusedRegions(prefix: string, linears: Record<string, LinearSpec>): RegionSize[] {
  const all = Object.entries(linears);
  const [, first] = all[0]!;
  const alike = all.every(([, linear]) => linear.in === first.in && sameFormat(linear, first));
  if (!alike) return all.flatMap(([name, linear]) => linearRegions(`${prefix}.${name}`, [linear]));
  const name = `${prefix}.${Object.keys(linears).join("_")}`;
  return linearRegions(name, Object.values(linears));
}

function sameFormat({ format: a }: LinearSpec, { format: b }: LinearSpec): boolean {
  if (a.kind === "plain" && b.kind === "plain") return storedDtype(a) === storedDtype(b);
  if (a.kind === "plain" || b.kind === "plain") return false;
  return a.bits === b.bits && a.groupSize === b.groupSize && a.gIdx === b.gIdx;
}

/** Weights, then a permutation per act-order linear, then biases. */
function linearRegions(name: string, linears: readonly LinearSpec[]): RegionSize[] {
  const permuted = linears.filter(({ format }) => format.kind === "gptq" && format.gIdx);
  const biased = linears.filter(({ bias }) => bias);
  const sum = (of: readonly LinearSpec[], bytes: (linear: LinearSpec) => number) =>
    of.reduce((all, linear) => all + bytes(linear), 0);
  const regions: RegionSize[] = [{ name: `${name}.weights`, bytes: sum(linears, weightBytes) }];
  if (permuted.length > 0) regions.push({ name: `${name}.permutation`, bytes: sum(permuted, (linear) => linear.in * 4) }); // i32 [in]
  if (biased.length > 0) regions.push({ name: `${name}.bias`, bytes: sum(biased, (linear) => paddedRows(linear) * 2) }); // f16 [rows]
  return regions;
}

function paddedRows(linear: LinearSpec): number {
  return roundUp(linear.out, TILE_ROWS);
}

function weightBytes(linear: LinearSpec): number {
  const tiles = paddedRows(linear) / TILE_ROWS;
  if (linear.format.kind === "plain") return tiles * TILE_ROWS * roundUp(linear.in, TILE_COLUMNS) * 2;
  return tiles * tileRowBytes(linear.in, linear.format);
}

/** 16 rows of a quantised linear: its superblocks one after the other. */
function tileRowBytes(inputs: number, { bits, groupSize }: GptqFormat): number {
  let bytes = 0;
  for (let begin = 0; begin < inputs; begin += SUPERBLOCK_COLUMNS) {
    const end = Math.min(begin + SUPERBLOCK_COLUMNS, inputs);
    const groups = Math.floor((end - 1) / groupSize) - Math.floor(begin / groupSize) + 1;
    bytes += (TILE_ROWS * roundUp(end - begin, TILE_COLUMNS) * bits) / 8;
    bytes += groups * TILE_ROWS * 2; // scales, f16
    bytes += roundUp((groups * TILE_ROWS * ZERO_BITS[bits]) / 8, COPY_UNIT);
  }
  return bytes;
}

/** bf16 stays bf16; f32 becomes f16, and a weight beyond f16's range ends the load. */
function storedDtype(format: PlainFormat): "f16" | "bf16" {
  return format.dtype === "bf16" ? "bf16" : "f16";
}

function normRegion(name: string, { size }: NormSpec): RegionSize[] {
  return [{ name, bytes: size * 2 }]; // f16 [size]
}

/** Keys and values, each [page, kvHead, token, headDim]. */
function kvRegions(layer: LayerSpec, tokens: number, type: CacheType): RegionSize[] {
  const { kvHeads, headDim } = layer.attention;
  const bytes = tokens * kvHeads * headBytes(headDim, type);
  return [
    { name: `layers.${layer.index}.kv.keys`, bytes },
    { name: `layers.${layer.index}.kv.values`, bytes },
  ];
}

/** One head's key or value of one token. */
function headBytes(headDim: number, type: CacheType): number {
  if (type === "f32") return headDim * 4;
  if (type === "f16") return headDim * 2;
  if (type === "q8") return headDim + 2; // one f16 scale
  return Math.ceil(headDim / 2) + 2 * Math.ceil(headDim / 32); // an f16 scale for every 32
}

/** Buffers of one step. Attention's and the MLP's are never alive together and share one region. */
function scratchRegions(spec: ModelSpec, stage: StageShape, run: RunShape): RegionSize[] {
  const tokens = Math.max(run.prefillChunk, run.maxSequences);
  const widest = (width: (layer: LayerSpec) => number) => stage.layers.reduce((most, layer) => Math.max(most, width(layer)), 0);
  const attention = widest(({ attention: a }) => (2 * a.heads + 2 * a.kvHeads) * a.headDim); // q, k, v and the output
  const mlp = widest((layer) => 2 * intermediateSize(layer));
  const partials = widest(({ attention: a }) => a.heads * (a.headDim + 2));
  const pageTable = cacheGroups(spec, run).reduce((sum, group) => sum + group.pagesPerSequence, 0);
  const regions: RegionSize[] = [
    { name: "scratch.control", bytes: CONTROL_BYTES },
    { name: "scratch.pageTables", bytes: run.maxSequences * pageTable * 4 }, // i32 [sequence, group, page]
    { name: "scratch.hidden", bytes: tokens * spec.hiddenSize * 2 }, // f16 [tokens, hidden], the residual stream
    { name: "scratch.normed", bytes: tokens * spec.hiddenSize * 2 }, // f16 [tokens, hidden]
    { name: "scratch.block", bytes: tokens * Math.max(attention, mlp) * 2 }, // f16 [tokens, …]
    { name: "scratch.attentionPartials", bytes: run.maxSequences * ATTENTION_SPLITS * partials * 4 }, // f32 [sequence, split, head, headDim + 2]
    { name: "scratch.dequantised", bytes: Math.min(DEQUANT_SLAB, widest(largestLinear) * 2) }, // f16
    { name: "scratch.rope", bytes: widest(({ attention: a }) => a.headDim) * 2 }, // f32 [headDim / 2]
  ];
  if (stage.last) regions.push({ name: "scratch.logits", bytes: run.maxSequences * spec.vocabSize * 4 }); // f32 [sequence, vocab]
  return regions;
}

function intermediateSize({ mlp }: LayerSpec): number {
  if (mlp.kind === "gated") return mlp.gate.out;
  return Math.max(...mlp.experts.map((expert) => expert.gate.out));
}

/** Weights of a layer's largest linear. */
function largestLinear({ attention: { q, k, v, o }, mlp }: LayerSpec): number {
  const gated = mlp.kind === "gated" ? [mlp] : mlp.experts;
  const linears = [q, k, v, o, ...gated.flatMap(({ gate, up, down }) => [gate, up, down])];
  return Math.max(...linears.map((linear) => linear.in * linear.out));
}
