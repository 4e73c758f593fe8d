// One linear from its checkpoint into its regions: bytes stream into device memory that is idle
// while loading, and kernels bring them from there into the order that the others read.

import type { GptqFormat } from "../../../model/spec.js";
import { orderByGroup } from "../../input-order.js";
import { writeParameters } from "../launch/parameter-layout.js";
import type { PlacedLinear } from "../steps/stage.js";
import { type ActOrder, actOrder } from "./act-order.js";
import {
  checkpointGroups,
  codeRows,
  codeUnitBytes,
  type QuantizedStorage,
  STAGING_ALIGNMENT,
  scaleRowBytes,
  zeroRowBytes,
} from "./linear-storage.js";
import { type LoadSite, RowTensor } from "./load-site.js";
import { paddedInputs } from "./quantized-layout.js";
import type { StagingArea } from "./staging-area.js";
import { DEQUANTIZE, REPACK_CODES, REPACK_GROUPS } from "./weight-layouts.js";

/** @param weightTensor of a plain linear: for tied embeddings the embedding's */
export async function loadLinear(site: LoadSite, linear: PlacedLinear, weightTensor: string): Promise<void> {
  const { spec, storage } = linear;
  if (spec.bias) await site.loadValues(`${spec.name}.bias`, spec.out, linear.bias);
  if (spec.format.kind === "plain") await site.loadValues(weightTensor, spec.in * spec.out, linear.weights);
  else if (storage.kind === "quantized") await loadQuantized(site, linear, storage);
  else await loadExpanded(site, linear, spec.format);
}

async function loadQuantized(site: LoadSite, linear: PlacedLinear, storage: QuantizedStorage): Promise<void> {
  const { format, group } = storage;
  const { spec } = linear;
  const { context, queue, uploader } = site;
  context.use().fill(linear.weights, 0, linear.weightBytes);
  const staging = site.staging();

  let inverse = 0n;
  const gIdx = format.gIdx ? await readGIdx(site, spec.name, spec.in) : null;
  const groups = checkpointGroups(spec, format);
  const order = gIdx ? actOrder(`${spec.name}.g_idx`, gIdx, groups, format.groupSize) : SEQUENTIAL;
  if (order.kind === "sorted") {
    await uploader.send(new Uint8Array(order.permutation.buffer), linear.permutation);
    inverse = staging.take(order.inverse.byteLength);
    await uploader.send(new Uint8Array(order.inverse.buffer), inverse);
  } else if (order.kind === "irregular") {
    const kernelGroupOf = gIdx!.map((each) => each * repeatOf(linear, storage));
    await uploader.send(new Uint8Array(kernelGroupOf.buffer), linear.permutation);
    linear.groupOf = linear.permutation;
  }
  if (order.kind !== "sorted") linear.permutation = 0n;

  await loadGroups(site, linear, storage, staging.fork());
  const unit = codeUnitBytes(spec, format);
  const qweight = site.source.find(`${spec.name}.qweight`, (spec.in * format.bits * spec.out) / 8);
  const slabUnits = Math.max(1, Math.floor(staging.room / unit));
  const codes = staging.take(Math.min(slabUnits * unit, (codeRows(spec) / 32) * unit));
  for (let first = 0; first < codeRows(spec); first += slabUnits * 32) {
    const rows = Math.min(slabUnits * 32, codeRows(spec) - first);
    const offset = (first / 32) * unit;
    const bytes = Math.min((rows / 32) * unit, qweight.bytes - offset);
    await uploader.upload(qweight, offset, bytes, codes);
    // The last unit may hold fewer than 32 inputs: the codes beyond are zeros.
    const missing = (rows / 32) * unit - bytes;
    if (missing > 0) context.fill(codes + BigInt(bytes), 0, missing);
    queue.run({
      family: "repack",
      name: `repack_codes_q${format.bits}_g${group}`,
      grid: [Math.ceil(spec.out / 256), rows / 32],
      block: 256,
      parameters: writeParameters(REPACK_CODES, {
        source: codes,
        destination: linear.weights,
        inverse,
        firstRow: first,
        rows,
        n: spec.out,
        k: paddedInputs(spec.in),
      }),
    });
  }
}

/** Scales and zeros, as many whole groups at a time as there is room for. */
async function loadGroups(site: LoadSite, linear: PlacedLinear, storage: QuantizedStorage, staging: StagingArea): Promise<void> {
  const { spec } = linear;
  const { format, group } = storage;
  const groups = checkpointGroups(spec, format);
  const k = paddedInputs(spec.in);
  const kernelGroups = Math.ceil(k / group);
  const repeat = repeatOf(linear, storage);
  const scales = new RowTensor(site, `${spec.name}.scales`, groups, scaleRowBytes(spec, format));
  const zeros = new RowTensor(site, `${spec.name}.qzeros`, groups, zeroRowBytes(spec, format));
  const flag = site.flags.take(scales.info.name, true);
  const most = Math.min(groups, Math.floor((staging.room - 2 * STAGING_ALIGNMENT) / (scales.rowBytes + zeros.rowBytes)));
  const [scalesAt, zerosAt] = [staging.take(most * scales.rowBytes), staging.take(most * zeros.rowBytes)];
  for (let first = 0; first < groups; first += most) {
    const count = Math.min(most, groups - first);
    await scales.upload(first, count, scalesAt);
    await zeros.upload(first, count, zerosAt);
    const scalesAreF32 = site.narrowScales(scales.info, scalesAt, count * spec.out);
    const firstGroup = first * repeat;
    site.queue.run({
      family: "repack",
      name: `repack_groups_q${format.bits}_g${group}`,
      grid: [Math.ceil(spec.out / 256), Math.min(count * repeat, kernelGroups - firstGroup)],
      block: 256,
      parameters: writeParameters(REPACK_GROUPS, {
        scales: scalesAt,
        zeros: zerosAt,
        destination: linear.weights,
        bad: flag,
        groups: count,
        repeat,
        n: spec.out,
        k,
        scalesAreF32,
        firstGroup,
        zeroOffset: zeroOffset(format),
        unused: 0,
      }),
    });
  }
}

/** A GPTQ linear whose groups the kernels do not have: fp16 for good, in the inputs' own order. */
async function loadExpanded(site: LoadSite, linear: PlacedLinear, format: GptqFormat): Promise<void> {
  const { spec } = linear;
  const { queue, uploader } = site;
  const staging = site.staging();
  const groups = checkpointGroups(spec, format);
  const scales = new RowTensor(site, `${spec.name}.scales`, groups, scaleRowBytes(spec, format));
  const zeros = new RowTensor(site, `${spec.name}.qzeros`, groups, zeroRowBytes(spec, format));
  const [scalesAt, zerosAt] = [staging.take(scales.info.bytes), staging.take(zeros.info.bytes)];
  await scales.upload(0, groups, scalesAt);
  await zeros.upload(0, groups, zerosAt);
  const scalesAreF32 = site.narrowScales(scales.info, scalesAt, groups * spec.out);
  let groupOf = 0n;
  if (format.gIdx) {
    const gIdx = await readGroups(site, spec.name, spec.in, groups);
    groupOf = staging.take(gIdx.byteLength);
    await uploader.send(new Uint8Array(gIdx.buffer, gIdx.byteOffset, gIdx.byteLength), groupOf);
  }
  const flag = site.flags.take(scales.info.name, true);
  const unit = codeUnitBytes(spec, format);
  const qweight = site.source.find(`${spec.name}.qweight`, (spec.in * format.bits * spec.out) / 8);
  const slabUnits = Math.max(1, Math.floor(staging.room / unit));
  const codes = staging.take(Math.min(slabUnits * unit, (codeRows(spec) / 32) * unit));
  for (let first = 0; first < spec.in; first += slabUnits * 32) {
    const rows = Math.min(slabUnits * 32, spec.in - first);
    const offset = (first / 32) * unit;
    await uploader.upload(qweight, offset, Math.min(slabUnits * unit, qweight.bytes - offset), codes);
    queue.run({
      family: "repack",
      name: "dequantize",
      grid: [Math.ceil(spec.out / 256), Math.ceil(rows / 8)],
      block: 256,
      parameters: writeParameters(DEQUANTIZE, {
        source: codes,
        scales: scalesAt,
        zeros: zerosAt,
        groupOf,
        destination: linear.weights,
        bad: flag,
        firstRow: first,
        rows,
        n: spec.out,
        k: spec.in,
        bits: format.bits,
        groupSize: format.groupSize,
        zeroOffset: zeroOffset(format),
        scalesAreF32,
      }),
    });
  }
}

/** The first format stores zeros less one, wrapping within their bits. */
function zeroOffset({ zeros }: GptqFormat): 0 | 1 {
  return zeros === "v1" ? 1 : 0;
}

const SEQUENTIAL: ActOrder = { kind: "sequential" };

/** Kernel groups that share one group of the checkpoint. */
function repeatOf({ spec }: PlacedLinear, { format, group }: QuantizedStorage): number {
  if (checkpointGroups(spec, format) === 1) return Math.ceil(paddedInputs(spec.in) / group);
  return format.groupSize / group;
}

/** @throws {TensorContentsError} */
async function readGroups(site: LoadSite, name: string, inputs: number, groups: number): Promise<Int32Array<ArrayBuffer>> {
  const gIdx = await readGIdx(site, name, inputs);
  orderByGroup(`${name}.g_idx`, gIdx, groups);
  return gIdx;
}

async function readGIdx(site: LoadSite, name: string, inputs: number): Promise<Int32Array<ArrayBuffer>> {
  const gIdx = new Int32Array(inputs);
  await site.source.read(site.source.find(`${name}.g_idx`, inputs * 4), 0, new Uint8Array(gIdx.buffer));
  return gIdx;
}
