// Embeddings stay on the host, in the checkpoint's dtype, in pinned memory that the first kernel
// of a step reads rows from over the bus: a few kilobytes per token, and no device byte.

import type { ModelSpec } from "../../../model/spec.js";
import type { DeviceContext } from "../cards/device-context.js";
import { TensorRangeError } from "../errors.js";
import { valueKind } from "./load-site.js";
import type { TensorSource } from "./weight-source.js";

export interface EmbeddingTable {
  /** Address for kernels. */
  readonly at: bigint;
  /** Kernels' number of its dtype: 0 f16, 1 bf16, 2 f32. */
  readonly kind: number;
}

/** @throws {TensorRangeError} for infinities and NaN */
export async function loadEmbeddings(context: DeviceContext, spec: ModelSpec, source: TensorSource): Promise<EmbeddingTable> {
  const { kind, bytes } = valueKind(source.find(spec.embedding.tensor));
  const count = spec.vocabSize * spec.hiddenSize;
  const tensor = source.find(spec.embedding.tensor, count * bytes);
  const memory = context.use().allocatePinned(tensor.bytes);
  await source.read(tensor, 0, new Uint8Array(memory.buffer));
  if (!allFinite(memory.buffer, kind)) throw new TensorRangeError(tensor.name, null);
  return { at: context.use().devicePointer(memory), kind };
}

/** Whether no exponent is all ones. */
function allFinite(buffer: ArrayBuffer, kind: number): boolean {
  if (kind === 2) {
    const words = new Uint32Array(buffer);
    for (let i = 0; i < words.length; i++) if ((words[i]! & 0x7f800000) === 0x7f800000) return false;
    return true;
  }
  const exponent = kind === 0 ? 0x7c00 : 0x7f80;
  const values = new Uint16Array(buffer);
  for (let i = 0; i < values.length; i++) if ((values[i]! & exponent) === exponent) return false;
  return true;
}
