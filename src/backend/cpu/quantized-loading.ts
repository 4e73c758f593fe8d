// Loading linears in their quantised form: the packer says what to read, the workers put it
// into tiles, each its share of them.

import { stagingArea } from "./arena-memory.js";
import type { Kernels } from "./kernels.js";
import type { LinearTarget, LoadSite } from "./loading.js";
import type { PackedFacts } from "./quantized-linear.js";
import { LinearPacker } from "./quantized-packer.js";
import { packingStagingBytes } from "./quantized-staging.js";

/** Slabs are about this large, so that reading and packing alternate and an abort is heard. */
const SLAB_BYTES = 16 * 2 ** 20;

/** Loads one linear and says what its contents showed. */
export async function loadQuantizedLinear(site: LoadSite, target: LinearTarget, kernels: Kernels): Promise<PackedFacts> {
  const { name, arena, weightTensor, linear } = target;
  const memory = site.memories[arena]!;
  const offset = (part: string) => site.regions.find(`${name}.${part}`, arena)?.offset ?? 0;
  const place = { weights: offset("weights"), permutation: offset("permutation"), bias: offset("bias") };
  const area = stagingArea(site.stage, site.regions, arena);
  const staging = { offset: area.at, bytes: Math.min(area.bytes, packingStagingBytes(linear) + SLAB_BYTES) };
  const spec = { ...linear, name: weightTensor.replace(/\.weight$/, "") };
  const packer = new LinearPacker(kernels, memory, spec, place, staging, site.reader.tensors);
  for (const step of packer.steps()) {
    await site.reader.read(step.tensor, step.offset, step.bytes, memory.buffer, step.at, !step.again);
    const { command, tileFrom, tileTo } = step;
    if (!command) continue;
    const found = await site.team.job({ kind: "pack", arena, command, tileFrom, tileTo });
    const bad = found.filter((status) => status > 0);
    packer.accept(step, bad.length > 0 ? Math.min(...bad) : 0);
  }
  return packer.finish();
}
