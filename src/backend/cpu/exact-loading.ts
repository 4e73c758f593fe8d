// Loading linears for the exact path: read a slab, dequantise or widen it into its place with
// all workers, read the next.

import { TensorContentsError } from "../errors.js";
import { stagingArea } from "./arena-memory.js";
import { exactStaging, PLAIN_BYTES } from "./exact-layout.js";
import { ValueKind } from "./kernels.js";
import { checkFinite, type LinearTarget, type LoadSite, loadValues } from "./loading.js";

/** Slabs are no larger than this, so that reading and working alternate and an abort is heard. */
const MOST_SLAB_BYTES = 16 * 2 ** 20;

/** Loads one linear as f32 `[out, in]`. */
export async function loadExactLinear(site: LoadSite, target: LinearTarget): Promise<void> {
  const { linear, name, arena } = target;
  if (linear.bias)
    await loadValues(site, `${linear.name}.bias`, linear.out, arena, site.regions.get(`${name}.bias`, arena).offset);
  if (linear.format.kind === "plain") await loadPlain(site, target);
  else await loadGptq(site, target);
}

async function loadPlain(site: LoadSite, { linear, name, weightTensor, arena }: LinearTarget): Promise<void> {
  if (linear.format.kind !== "plain") return;
  const { dtype } = linear.format;
  const tensor = site.reader.find(weightTensor, linear.in * linear.out * PLAIN_BYTES[dtype]);
  const { buffer } = site.memories[arena]!;
  const to = site.regions.get(`${name}.weights`, arena).offset;
  if (dtype === "f32") {
    await site.reader.read(tensor, 0, tensor.bytes, buffer, to);
    await checkFinite(site, tensor, arena, to, linear.in * linear.out);
    return;
  }
  const { at, bytes } = stagingArea(site.stage, site.regions, arena);
  const unit = PLAIN_BYTES[dtype];
  const most = Math.floor(Math.min(bytes, MOST_SLAB_BYTES) / unit);
  for (let done = 0; done < linear.in * linear.out; done += most) {
    const count = Math.min(most, linear.in * linear.out - done);
    await site.reader.read(tensor, done * unit, count * unit, buffer, at);
    await checkFinite(site, tensor, arena, at, count, done);
    await site.team.job({ kind: "widen", arena, from: at, to: to + done * 4, count, value: ValueKind[dtype] });
  }
}

async function loadGptq(site: LoadSite, { linear, name, arena }: LinearTarget): Promise<void> {
  const { format } = linear;
  if (format.kind !== "gptq") return;
  const { reader, team } = site;
  const { buffer } = site.memories[arena]!;
  const staging = stagingArea(site.stage, site.regions, arena);
  const places = exactStaging(linear);
  const groups = Math.ceil(linear.in / format.groupSize);
  const load = async (part: string, bytes: number, at: number) => {
    const tensor = reader.find(`${linear.name}.${part}`, bytes);
    await reader.read(tensor, 0, bytes, buffer, staging.at + at);
    return tensor;
  };
  const scales = await load("scales", groups * linear.out * PLAIN_BYTES[format.scaleDtype], places.scales);
  await checkFinite(site, scales, arena, staging.at + places.scales, groups * linear.out);
  await load("qzeros", groups * ((linear.out * format.bits) / 32) * 4, places.zeros);
  if (format.gIdx) {
    const { name: tensor } = await load("g_idx", linear.in * 4, places.gIdx);
    checkGroups(tensor, new Int32Array(buffer, staging.at + places.gIdx, linear.in), groups);
  }
  const room = Math.min(staging.bytes - places.slab, Math.max(MOST_SLAB_BYTES, places.slabUnit));
  const most = Math.floor(room / places.slabUnit) * places.unitRows;
  const rowBytes = places.slabUnit / places.unitRows;
  const qweight = reader.find(`${linear.name}.qweight`, linear.in * rowBytes);
  for (let firstRow = 0; firstRow < linear.in; firstRow += most) {
    const rows = Math.min(most, linear.in - firstRow);
    await reader.read(qweight, firstRow * rowBytes, rows * rowBytes, buffer, staging.at + places.slab);
    await team.job({
      kind: "dequantize",
      arena,
      format,
      in: linear.in,
      out: linear.out,
      firstRow,
      rows,
      slab: staging.at + places.slab,
      scales: staging.at + places.scales,
      zeros: staging.at + places.zeros,
      gIdx: format.gIdx ? staging.at + places.gIdx : -1,
      to: site.regions.get(`${name}.weights`, arena).offset,
    });
  }
}

/** @throws {TensorContentsError} when a group number is none */
function checkGroups(tensor: string, gIdx: Int32Array, groups: number): void {
  const bad = gIdx.findIndex((group) => group < 0 || group >= groups);
  if (bad >= 0) throw new TensorContentsError(tensor, `names group ${gIdx[bad]} at ${bad}, but there are ${groups}`);
}
