// What the CPU backend stores, as pure numbers: one packing for the quantised default, one for
// the exact path. Both run in a browser, where the planner does.

import type { CacheType, Packing, RegionSize, RunShape, StageShape } from "../../memory/packing.js";
import type { LayerSpec, LinearSpec, ModelSpec, NormSpec } from "../../model/spec.js";
import { adapterRegions } from "./adapter-layout.js";
import { cacheTokenBytes } from "./cache-layout.js";
import { exactRegions, exactStagingBytes, PLAIN_BYTES } from "./exact-layout.js";
import { activationBytes, quantizedRegions } from "./quantized-layout.js";
import { packingStagingBytes } from "./quantized-staging.js";
import { type LinearSizes, scratchRegions } from "./scratch.js";

const WASM_PAGE = 65536;

/** Names of a layer's linears, as regions carry them: `layers.3.attention.q.weights`. */
export function layerLinears(layer: LayerSpec): [name: string, linear: LinearSpec][] {
  const at = `layers.${layer.index}`;
  const { q, k, v, o } = layer.attention;
  const linears: [string, LinearSpec][] = [
    [`${at}.attention.q`, q],
    [`${at}.attention.k`, k],
    [`${at}.attention.v`, v],
    [`${at}.attention.o`, o],
  ];
  if (layer.mlp.kind === "moe") linears.push([`${at}.mlp.router`, layer.mlp.router]);
  if (layer.mlp.kind === "moe" && layer.mlp.sharedGate) linears.push([`${at}.mlp.sharedGate`, layer.mlp.sharedGate]);
  const mlps = layer.mlp.kind === "gated" ? [layer.mlp] : layer.mlp.experts;
  mlps.forEach(({ gate, up, down }, expert) => {
    const mlp = layer.mlp.kind === "gated" ? `${at}.mlp` : `${at}.mlp.experts.${expert}`;
    linears.push([`${mlp}.gate`, gate], [`${mlp}.up`, up], [`${mlp}.down`, down]);
  });
  return linears;
}

/** Names of a layer's norms; their weights are f32. */
export function layerNorms(layer: LayerSpec): [name: string, norm: NormSpec][] {
  const at = `layers.${layer.index}`;
  const norms: [string, NormSpec | null][] = [
    [`${at}.inputNorm`, layer.inputNorm],
    [`${at}.attention.qNorm`, layer.attention.qNorm],
    [`${at}.attention.kNorm`, layer.attention.kNorm],
    [`${at}.postAttentionNorm`, layer.postAttentionNorm],
  ];
  return norms.filter((entry): entry is [string, NormSpec] => entry[1] !== null);
}

function cpuStorage(name: Packing["name"], cacheTypes: readonly CacheType[], sizes: LinearSizes): Packing {
  const linearRegions = (prefix: string, linear: LinearSpec): RegionSize[] =>
    [...sizes.regions(linear), ...adapterRegions(linear, sizes.adapterValueBytes)].map(({ name: part, bytes }) => ({
      name: `${prefix}.${part}`,
      bytes,
    }));
  const normRegion = ([at, norm]: [string, NormSpec]): RegionSize => ({ name: at, bytes: norm.size * 4 });
  return {
    name,
    alignment: 64,
    granularity: WASM_PAGE,
    maxArena: 65536 * WASM_PAGE,
    arenaHeader: WASM_PAGE,
    embeddings: "device",
    cacheTypes,
    layer: (_spec: ModelSpec, layer: LayerSpec) => [
      ...layerNorms(layer).map(normRegion),
      ...layerLinears(layer).flatMap(([at, linear]) => linearRegions(at, linear)),
    ],
    kv: (layer: LayerSpec, tokens: number, type: CacheType) => {
      const { kvHeads, headDim } = layer.attention;
      const bytes = tokens * kvHeads * cacheTokenBytes(headDim, type);
      return [
        { name: `layers.${layer.index}.kv.keys`, bytes },
        { name: `layers.${layer.index}.kv.values`, bytes },
      ];
    },
    // Tied embeddings are stored as the head is, and give their rows from there.
    embedding: (spec: ModelSpec) =>
      spec.tiedEmbeddings
        ? linearRegions("embedding", spec.head)
        : [{ name: "embedding.rows", bytes: spec.vocabSize * spec.hiddenSize * PLAIN_BYTES[spec.embedding.dtype] }],
    head: (spec: ModelSpec, shared: boolean) => [
      normRegion(["finalNorm", spec.finalNorm]),
      ...(shared ? [] : linearRegions("head", spec.head)),
    ],
    scratch: (spec: ModelSpec, stage: StageShape, run: RunShape) => scratchRegions(spec, stage, run, sizes),
  };
}

/** The default: weights quantised as the checkpoint is (plain ones to 8 bits), int8 activations. */
export const cpuPacking: Packing = cpuStorage("cpu", ["f16", "q8", "q4"], {
  regions: quantizedRegions,
  adapterValueBytes: 2,
  activationBytes,
  stagingBytes: packingStagingBytes,
});

/** The oracle: everything f32, nothing approximated. */
export const cpuExactPacking: Packing = cpuStorage("cpu-exact", ["f32"], {
  regions: exactRegions,
  adapterValueBytes: 4,
  activationBytes: () => 0,
  stagingBytes: exactStagingBytes,
});
