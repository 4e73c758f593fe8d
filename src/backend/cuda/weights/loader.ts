// From a plan to a model in place: contexts, arenas of exactly the planned size, weights streamed
// into them. Whatever fails, everything taken is given back.

import type { TensorInfo } from "../../../checkpoint/checkpoint.js";
import type { DevicePlan, StageLayout } from "../../../memory/plan.js";
import type { LinearSpec, ModelSpec } from "../../../model/spec.js";
import type { Stage } from "../steps/stage.js";
import { layerLinears, layerNorms } from "./layer-parts.js";
import type { EmbeddingTable } from "./load-embeddings.js";
import { loadEmbeddings } from "./load-embeddings.js";
import { loadLinear } from "./load-linear.js";
import { LoadSite } from "./load-site.js";
import type { TensorSource } from "./weight-source.js";

/** A device that holds something. */
export type UsedDevice = DevicePlan & { readonly stage: StageLayout };

/** Fills every stage. */
export async function loadWeights(stages: readonly Stage[], spec: ModelSpec, source: TensorSource): Promise<EmbeddingTable> {
  const embeddings = await loadEmbeddings(stages[0]!.context, spec, source);
  for (const stage of stages) {
    stage.context.use();
    const site = new LoadSite(stage, source);
    try {
      for (const { tensor, size, to } of stage.norms(spec)) await site.loadValues(tensor, size, to);
      for (const [, linear] of stage.linears()) await loadLinear(site, linear, weightTensor(spec, linear.spec));
      site.finish();
      clearStaging(stage);
    } finally {
      stage.context.driver.invoke("cuStreamSynchronize", [stage.context.stream]);
      site.close();
    }
  }
  return embeddings;
}

/** A step's buffers and the cache begin as zeros: nothing of what passed through is left. */
function clearStaging(stage: Stage): void {
  const begin = stage.layout.regions.find(({ area }) => area !== "weights")!.offset;
  stage.context.use().fill(stage.arena + BigInt(begin), 0, stage.bytes - begin);
  stage.context.synchronize();
}

/** Tied embeddings serve as the head's weights. */
function weightTensor(spec: ModelSpec, linear: LinearSpec): string {
  return linear === spec.head && spec.tiedEmbeddings ? spec.embedding.tensor : `${linear.name}.weight`;
}

/** Bytes of every tensor that loadWeights() reads. */
export function bytesToRead(spec: ModelSpec, tensors: ReadonlyMap<string, TensorInfo>): number {
  const bytes = (name: string) => tensors.get(name)?.bytes ?? 0;
  const linear = (of: LinearSpec) => {
    const parts = of.format.kind === "plain" ? [] : ["qweight", "qzeros", "scales", ...(of.format.gIdx ? ["g_idx"] : [])];
    const weights = of.format.kind === "plain" ? bytes(weightTensor(spec, of)) : 0;
    return [...parts, ...(of.bias ? ["bias"] : [])].reduce((sum, part) => sum + bytes(`${of.name}.${part}`), weights);
  };
  let sum = bytes(spec.embedding.tensor) + bytes(spec.finalNorm.tensor) + linear(spec.head);
  for (const layer of spec.layers) {
    for (const [, norm] of layerNorms(layer)) sum += bytes(norm.tensor);
    for (const [, of] of layerLinears(layer)) sum += linear(of);
  }
  return sum;
}
