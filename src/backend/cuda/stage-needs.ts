// What a stage's linears need of scratch, whatever the context: asked for hundreds of times while a plan looks for the largest
// one, and found out once.

import type { CacheType, StageShape } from "../../memory/packing.js";
import type { LayerSpec, LinearSpec, ModelSpec } from "../../model/spec.js";
import { LEAST_CHAIN_ROWS } from "./chains/chain-rows-launch.js";
import { chainRowsLayout } from "./chains/chain-rows-shape.js";
import { chainLayout } from "./chains/chain-shape.js";
import { mostPieceBytes } from "./linears/batch-launch.js";
import { LEAST_WGMMA_BATCHED, mostWgmmaPieceBytes } from "./linears/batch-launch-wgmma.js";
import { adapterRowValues } from "./weights/adapter-layout.js";
import { layerLinears } from "./weights/layer-parts.js";
import { expandedBytes, mayPermute, stagingBytes, storageOf } from "./weights/linear-storage.js";

/** Bytes, 0 for what is not needed. */
export interface StageNeeds {
  /** Of x in the order of act-order. */
  readonly gathered: number;
  /** Of weights expanded or staged, and of pieces of linears that go together in steps of some dozens of tokens. */
  readonly expanded: number;
  /** Of such pieces on Hopper, which have their own place. */
  readonly wgmmaPieces: number;
  /** Of q, k and v, or gate and up, of a step. */
  readonly block: number;
  /** Ranks of adapters, values a token. */
  readonly adapters: number;
  readonly chain: number;
  readonly chainRows: number;
}

const known = new WeakMap<readonly LayerSpec[], Map<string, StageNeeds>>();

/**
 * @param stage its layers are not changed
 * @param tokens of the largest step, of which so many have outputs
 */
export function stageNeeds(spec: ModelSpec, stage: StageShape, tokens: number, outputs: number, cache: CacheType): StageNeeds {
  const ofLayers = known.get(stage.layers) ?? new Map<string, StageNeeds>();
  known.set(stage.layers, ofLayers);
  const key = `${stage.last} ${tokens} ${outputs} ${cache}`;
  const needs = ofLayers.get(key) ?? found(spec, stage, tokens, outputs, cache);
  ofLayers.set(key, needs);
  return needs;
}

function found(
  { head, hiddenSize }: ModelSpec,
  { layers, last }: StageShape,
  tokens: number,
  outputs: number,
  cache: CacheType,
): StageNeeds {
  const linears = [...(last ? [head] : []), ...layers.flatMap((layer) => layerLinears(layer).map(([, linear]) => linear))];
  const most = <Part>(parts: readonly Part[], size: (part: Part) => number) =>
    parts.reduce((most, part) => Math.max(most, size(part)), 0);
  const batched = layers.flatMap((layer) => batchedOutputs(layer, tokens));
  const pieces = most(batched, (each) => mostPieceBytes(each, tokens));
  return {
    gathered: most(linears, (linear) => (mayPermute(linear) ? (linear === head ? outputs : tokens) * linear.in * 2 : 0)),
    expanded: Math.max(
      most(linears, (linear) => expandedBytes(linear, tokens)),
      pieces,
      most(linears, stagingBytes),
      hiddenSize * 4,
    ),
    wgmmaPieces: most(batched, () => mostWgmmaPieceBytes(tokens)),
    block: most(layers, blockWidth) * tokens * 2,
    adapters: most(layers, adapterRowValues),
    chain: chainLayout(layers, cache)?.bytes ?? 0,
    chainRows: tokens >= LEAST_CHAIN_ROWS ? (chainRowsLayout(layers)?.bytes ?? 0) : 0,
  };
}

/** Outputs of the linears of a layer that share x and may be multiplied in pieces, in steps of so many tokens. */
function batchedOutputs({ attention: { q, k, v, o }, mlp }: LayerSpec, tokens: number): (readonly number[])[] {
  if (tokens < LEAST_WGMMA_BATCHED || mlp.kind !== "gated") return [];
  return [[q, k, v], [o], [mlp.gate, mlp.up], [mlp.down]]
    .filter((linears: readonly LinearSpec[]) => linears.every((linear) => storageOf(linear).kind === "quantized"))
    .map((linears) => linears.map(({ out }) => out));
}

function blockWidth({ attention: { heads, kvHeads, headDim }, mlp }: LayerSpec): number {
  const intermediate = mlp.kind === "gated" ? mlp.gate.out : Math.max(...mlp.experts.map((expert) => expert.gate.out));
  return Math.max((heads + 2 * kvHeads) * headDim, 2 * intermediate);
}
