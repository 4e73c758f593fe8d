// How the CUDA backend stores a model, in bytes: no device, no weights, only arithmetic, so
// that a plan for a card can be made anywhere. The loader fills exactly these regions and the
// kernels read them; what a step needs is listed in scratchRegions(), and nothing else exists.
//
// Quantised linears lie in row tiles (quantized-layout.ts), or expanded to fp16 where the kernels
// do not have their group size; plain linears, norms and biases are fp16. Zero points always
// have room, and so has a permutation wherever there is a g_idx: only the contents show
// whether they are needed. Embeddings stay on the host, where the first kernel gathers rows.

import type { CacheType, Packing, RegionSize, RunShape, StageShape } from "../../memory/packing.js";
import { MiB } from "../../memory/size.js";
import type { LayerSpec, LinearSpec, ModelSpec, NormSpec } from "../../model/spec.js";
import { CARRIED_BYTES, deferredScratchBytes } from "./linears/deferred-norms.js";
import { poolBytes, sliceBytes, slotBytes } from "./outputs/sampling-shape.js";
import { stageNeeds } from "./stage-needs.js";
import { capturedSize } from "./steps/captured-steps.js";
import { attentionScratch, FACT_BYTES, halfDim, largestInput, logitRows, stepTokens } from "./steps/step-shape.js";
import { adapterRegions } from "./weights/adapter-layout.js";
import { layerLinears, layerNorms } from "./weights/layer-parts.js";
import { mayPermute, weightBytes } from "./weights/linear-storage.js";

export const cudaPacking: Packing = {
  name: "cuda",
  alignment: 256,
  granularity: 2 * MiB,
  maxArena: Number.POSITIVE_INFINITY,
  arenaHeader: 0,
  embeddings: "host",
  cacheTypes: ["f16", "q8", "q4"],
  layer: (_, layer) => [
    ...layerNorms(layer).map(([name, norm]) => normRegion(name, norm)),
    ...layerLinears(layer).flatMap(([name, linear]) => linearRegions(name, linear)),
  ],
  kv: kvRegions,
  embedding: () => [],
  head: (spec) => [normRegion("finalNorm", spec.finalNorm), ...linearRegions("head", spec.head)],
  scratch: scratchRegions,
  captured: capturedSize,
};

function normRegion(name: string, { size }: NormSpec): RegionSize {
  return { name, bytes: size * 2 }; // f16 [size]
}

function linearRegions(name: string, linear: LinearSpec): RegionSize[] {
  const regions: RegionSize[] = [{ name: `${name}.weights`, bytes: weightBytes(linear) }];
  if (mayPermute(linear)) regions.push({ name: `${name}.permutation`, bytes: linear.in * 4 }); // i32 [in]
  if (linear.bias) regions.push({ name: `${name}.bias`, bytes: linear.out * 2 }); // f16 [out]
  for (const { name: part, bytes } of adapterRegions(linear)) regions.push({ name: `${name}.${part}`, bytes });
  return regions;
}

/** Keys and values, each [page, kvHead] pieces as kernels/kv_cells.cuh describes them. */
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
  // Whole cells of 16 bytes, and f16 scales: one, or one for every 32 dims.
  if (type === "q8") return 16 * Math.ceil(headDim / 16) + 2;
  return (16 + 2) * Math.ceil(headDim / 32);
}

/** Buffers of one step. Attention's and the MLP's are never alive together and share one region. */
function scratchRegions(spec: ModelSpec, stage: StageShape, run: RunShape): RegionSize[] {
  const tokens = stepTokens(run);
  const outputs = logitRows(spec, run);
  const { gathered, expanded, wgmmaPieces, block, adapters, chain, chainRows } = stageNeeds(
    spec,
    stage,
    tokens,
    outputs,
    run.cacheType,
  );
  const regions: RegionSize[] = [
    { name: "scratch.input", bytes: largestInput(spec, run).bytes },
    { name: "scratch.residual", bytes: tokens * spec.hiddenSize * 4 + CARRIED_BYTES }, // f32 [tokens, hidden], factors
  ];
  if (stage.layers.length > 0)
    regions.push(
      { name: "scratch.normed", bytes: tokens * spec.hiddenSize * 2 }, // f16 [tokens, hidden]
      { name: "scratch.block", bytes: block }, // f16: q, k, v or gate, up
      { name: "scratch.ropeTable", bytes: tokens * halfDim(spec) * 8 }, // f32 pairs [tokens, headDim / 2]
      { name: "scratch.frequencies", bytes: halfDim(spec) * 8 }, // f64 [headDim / 2]
      { name: "scratch.partials", bytes: attentionScratch(stage.layers, run).bytes },
    );
  if (adapters > 0) regions.push({ name: "scratch.adapters", bytes: tokens * adapters * 4 }); // f32 [tokens, ranks]
  if (gathered > 0) regions.push({ name: "scratch.gathered", bytes: gathered }); // f16 [tokens, in] in act-order
  // Also where weights are staged while they are loaded, before the flags of what was wrong with them.
  regions.push({ name: "scratch.expanded", bytes: expanded });
  if (wgmmaPieces > 0) regions.push({ name: "scratch.pieces", bytes: wgmmaPieces }); // f32, 0xffffffff between launches
  if (wgmmaPieces > 0 || chainRows > 0) regions.push({ name: "scratch.deferred", bytes: deferredScratchBytes(spec.hiddenSize) }); // f32, of norms that are put off
  if (chain > 0) regions.push({ name: "scratch.chain", bytes: chain }); // packets and counters, zero before the first launch
  if (chainRows > 0) regions.push({ name: "scratch.chainRows", bytes: chainRows }); // the same, of several tokens
  regions.push({ name: "scratch.flags", bytes: FLAG_BYTES });
  if (stage.last)
    regions.push(
      { name: "scratch.finalNormed", bytes: outputs * spec.hiddenSize * 2 }, // f16 [outputs, hidden]
      { name: "scratch.hiddenStates", bytes: outputs * spec.hiddenSize * 4 }, // f32 [outputs, hidden]
      { name: "scratch.logits", bytes: outputs * spec.vocabSize * 4 }, // f32 [outputs, vocab]
      { name: "scratch.slices", bytes: sliceBytes(spec, run) }, // of each row of logits
      { name: "scratch.facts", bytes: outputs * FACT_BYTES },
      { name: "scratch.slots", bytes: slotBytes(spec, run) + poolBytes(spec, run) }, // how tokens are chosen
    );
  return regions;
}

/** u32 per checked tensor: what was wrong with its contents. */
export const FLAG_BYTES = 4096;
