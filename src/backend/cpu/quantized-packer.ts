// Brings a linear from a checkpoint into its tiles through a bounded staging area. The packer
// says step by step which bytes to read where and what to run on them; the loader reads, and
// may give the same command to many workers, each with a range of tiles:
//
//   const packer = new LinearPacker(kernels, memory, spec, place, staging, checkpoint.tensors);
//   for (const step of packer.steps()) {
//     await checkpoint.read(step.tensor, step.offset, new Uint8Array(memory.buffer, step.at, step.bytes));
//     packer.pack(step);   // or runPack(…) in workers, then packer.accept(step, status)
//   }
//   const facts = packer.finish();

import { createHash } from "node:crypto";
import type { TensorInfo } from "../../checkpoint/checkpoint.js";
import type { LinearSpec } from "../../model/spec.js";
import { fitsBlocks, type InputOrder, orderByGroup, sequentialOrder } from "../input-order.js";
import { CpuLoadError, NonFiniteTensorError } from "./errors.js";
import { PACK_DTYPE, type QuantizedKernels } from "./quantized-kernels.js";
import {
  MAX_BLOCK,
  maySkipZeros,
  type QuantizedLayout,
  quantizedLayout,
  SEGMENT_ENTRY_BYTES,
  segmentActivationBytes,
  withoutZeros,
} from "./quantized-layout.js";
import { codeArea, type PackedFacts, type QuantizedPlace } from "./quantized-linear.js";
import { packingStagingBytes, type SlabUnit, slabUnits, stagingTables } from "./quantized-staging.js";

/** A kernel and its arguments but for the range of tiles. */
export interface PackCommand {
  readonly kernel:
    | "pack_nibble_words"
    | "pack_byte_words"
    | "pack_codes"
    | "pack_plain"
    | "pack_scales"
    | "pack_zeros"
    | "pack_bias";
  readonly args: readonly number[];
}

/** Bytes to read, and what to do with them then. Plain data. */
export interface PackStep {
  readonly tensor: TensorInfo;
  /** Bytes into the tensor's contents. */
  readonly offset: number;
  readonly bytes: number;
  /** Byte offset in the memory to read to. */
  readonly at: number;
  /** These bytes have been read before. */
  readonly again: boolean;
  /** `null`: the packer reads the bytes itself when the next step is asked for. */
  readonly command: PackCommand | null;
  /** Tiles that the command fills; any division of them over threads will do. */
  readonly tileFrom: number;
  readonly tileTo: number;
}

/**
 * Runs a step's command on some of its tiles.
 *
 * @returns 0, or 1 + the index in the slab of a value that is NaN or infinite
 */
export function runPack(kernels: QuantizedKernels, command: PackCommand, tileFrom: number, tileTo: number): number {
  const kernel = kernels[command.kernel] as (...args: number[]) => number | undefined;
  return kernel(...command.args, tileFrom, tileTo) ?? 0;
}

export class LinearPacker {
  readonly layout: QuantizedLayout;
  readonly #kernels: QuantizedKernels;
  readonly #memory: WebAssembly.Memory;
  readonly #spec: LinearSpec;
  readonly #place: QuantizedPlace;
  readonly #slab: { at: number; bytes: number };
  readonly #inverse: number;
  readonly #places: number;
  readonly #tensors: ReadonlyMap<string, TensorInfo>;
  #facts: PackedFacts | null = null;
  /** Bytes of qzeros that have been looked at. */
  #zerosSeen = 0;

  /**
   * @param staging idle memory, at least packingStagingBytes(spec) from a multiple of 64
   * @param tensors of the checkpoint, by name
   * @throws {CpuLoadError} when the staging area is too small
   */
  constructor(
    kernels: QuantizedKernels,
    memory: WebAssembly.Memory,
    spec: LinearSpec,
    place: QuantizedPlace,
    staging: { readonly offset: number; readonly bytes: number },
    tensors: ReadonlyMap<string, TensorInfo>,
  ) {
    const least = packingStagingBytes(spec);
    if (staging.bytes < least) throw new CpuLoadError(`${spec.name} needs ${least} bytes of staging, there are ${staging.bytes}`);
    const tables = stagingTables(spec);
    this.layout = quantizedLayout(spec);
    this.#kernels = kernels;
    this.#memory = memory;
    this.#spec = spec;
    this.#place = place;
    this.#inverse = staging.offset + tables.inverse;
    this.#places = staging.offset + tables.places;
    this.#slab = { at: staging.offset + tables.slab, bytes: staging.bytes - tables.slab };
    this.#tensors = tensors;
  }

  /**
   * What to read, in order. A step must have been read and packed before the next one is asked for.
   *
   * @throws {CpuLoadError} when a tensor is missing or has another size than the spec says
   * @throws {TensorContentsError} when g_idx names a group that does not exist
   */
  *steps(): Generator<PackStep, void, void> {
    if (this.#spec.format.kind === "plain") yield* this.#plain();
    else yield* this.#gptq();
    if (this.#spec.bias) yield* this.#bias();
  }

  /** Runs a step's command on all its tiles, here. */
  pack(step: PackStep): void {
    if (step.command) this.accept(step, runPack(this.#kernels, step.command, step.tileFrom, step.tileTo));
  }

  /**
   * @param status what runPack returned
   * @throws {NonFiniteTensorError} when it found NaN or an infinity
   */
  accept(step: PackStep, status: number): void {
    if (status === 0) return;
    const size = step.tensor.dtype === "F32" ? 4 : 2;
    throw new NonFiniteTensorError(step.tensor.name, step.offset / size + status - 1);
  }

  /** What was found on the way, for every QuantizedLinear of these weights. After the last step. */
  finish(): PackedFacts {
    if (!this.#facts) throw new CpuLoadError(`${this.#spec.name} has not been packed`);
    return this.#facts;
  }

  *#plain(): Generator<PackStep, void, void> {
    const { in: inputs, out } = this.#spec;
    const { tileBytes, blocks, blockSize } = this.layout;
    const { weight } = slabUnits(this.#spec);
    const tensor = this.#tensor("weight", (out * weight.bytes) / weight.rows);
    for (const slab of this.#slabs(tensor, weight, out)) {
      const args = [this.#slab.at, dtypeOf(tensor), slab.first, inputs, out, this.#place.weights, tileBytes, blocks, blockSize];
      yield {
        ...slab.step,
        command: { kernel: "pack_plain", args },
        tileFrom: slab.first / weight.rows,
        tileTo: Math.ceil(slab.end / weight.rows),
      };
    }
    this.#facts = { form: "records", symmetric: false, segments: 0, tokenBytes: 0, permuted: false, digest: "" };
  }

  *#gptq(): Generator<PackStep, void, void> {
    const order = yield* this.#inputOrder();
    const form = this.layout.form !== "segments" && fitsBlocks(order, this.layout.blockSize) ? "records" : "segments";
    const symmetric = form === "records" && maySkipZeros(this.layout) && (yield* this.#zerosAreEight());
    const layout = symmetric ? withoutZeros(this.layout) : this.layout;
    this.#writePermutation(order);
    this.#writePlaces(order, form);
    const segments = form === "segments" ? this.#writeSegments(order) : { count: 0, tokenBytes: 0, table: new Int32Array() };
    yield* this.#scales(layout, form, symmetric);
    yield* this.#codes(layout, order, form);
    const digest = order.permutation || form === "segments" ? digestOf(order.permutation, segments.table) : "";
    const { count, tokenBytes } = segments;
    this.#facts = { form, symmetric, segments: count, tokenBytes, permuted: order.permutation !== null, digest };
  }

  *#inputOrder(): Generator<PackStep, InputOrder, void> {
    const { in: inputs, format } = this.#spec;
    const { groups } = this.layout;
    if (format.kind !== "gptq" || !format.gIdx)
      return sequentialOrder(inputs, groups, format.kind === "gptq" ? format.groupSize : inputs);
    const tensor = this.#tensor("g_idx", inputs * 4);
    yield { tensor, offset: 0, bytes: tensor.bytes, at: this.#slab.at, again: false, command: null, tileFrom: 0, tileTo: 0 };
    return orderByGroup(tensor.name, new Int32Array(this.#memory.buffer, this.#slab.at, inputs).slice(), groups);
  }

  #writePermutation({ permutation }: InputOrder): void {
    if (!permutation) return;
    new Int32Array(this.#memory.buffer, this.#place.permutation, permutation.length).set(permutation);
    const inverse = new Int32Array(this.#memory.buffer, this.#inverse, permutation.length);
    for (let position = 0; position < permutation.length; position++) inverse[permutation[position]!] = position;
  }

  /** Where each group's scales go: its blocks, or its own place. */
  #writePlaces({ starts }: InputOrder, form: PackedFacts["form"]): void {
    const { blockSize } = this.layout;
    const places = new Int32Array(this.#memory.buffer, this.#places, starts.length);
    for (let group = 0; group < starts.length; group++)
      places[group] = form === "segments" ? group : Math.ceil(starts[group]! / blockSize);
  }

  /** Cuts groups into segments of at most 128 inputs and writes their table behind the tiles. */
  #writeSegments({ starts }: InputOrder): { count: number; tokenBytes: number; table: Int32Array } {
    const entries: number[] = [];
    let tokenBytes = 0;
    for (let group = 0; group + 1 < starts.length; group++)
      for (let start = starts[group]!; start < starts[group + 1]!; start += MAX_BLOCK) {
        const length = Math.min(MAX_BLOCK, starts[group + 1]! - start);
        entries.push(start, length, group, tokenBytes);
        tokenBytes += segmentActivationBytes(this.layout, start, length);
      }
    const table = Int32Array.from(entries);
    new Int32Array(this.#memory.buffer, this.#place.weights + this.layout.segmentTable, table.length).set(table);
    return { count: (table.length * 4) / SEGMENT_ENTRY_BYTES, tokenBytes, table };
  }

  /** Whether this is a linear of 4 bits whose zeros are all 8, as symmetric quantisation makes them. */
  *#zerosAreEight(): Generator<PackStep, boolean, void> {
    const { format } = this.#spec;
    if (format.kind !== "gptq" || format.bits !== 4) return false;
    const { groups } = this.layout;
    const { zeros: unit } = slabUnits(this.#spec);
    const tensor = this.#tensor("qzeros", groups * unit.bytes);
    const eights = format.zeros === "v1" ? 0x77777777 : 0x88888888 | 0;
    for (const { step } of this.#slabs(tensor, unit, groups)) {
      yield { ...step, command: null, tileFrom: 0, tileTo: 0 };
      this.#zerosSeen = step.offset + step.bytes;
      if (new Int32Array(this.#memory.buffer, step.at, step.bytes / 4).some((word) => word !== eights)) return false;
    }
    return true;
  }

  *#scales(layout: QuantizedLayout, form: PackedFacts["form"], symmetric: boolean): Generator<PackStep, void, void> {
    const { format, out } = this.#spec;
    if (format.kind !== "gptq") return;
    const { groups, tiles, tileBytes, recordBytes, scaleBytes, scaleType } = layout;
    const units = slabUnits(this.#spec);
    const first = this.#place.weights + (form === "segments" ? codeArea(this.layout) : 0);
    const placeBytes = form === "segments" ? scaleBytes : recordBytes;
    const half = scaleType === "f16" ? 1 : 0;
    const scales = this.#tensor("scales", groups * units.scales.bytes);
    for (const slab of this.#slabs(scales, units.scales, groups)) {
      const args = [this.#slab.at, dtypeOf(scales), out, slab.first, slab.end, this.#places, first, tileBytes, placeBytes, half];
      yield { ...slab.step, command: { kernel: "pack_scales", args }, tileFrom: 0, tileTo: tiles };
    }
    if (symmetric) return;
    const zerosAt = first + scaleBytes - 16;
    const offset = format.zeros === "v1" ? 1 : 0;
    const zeros = this.#tensor("qzeros", groups * units.zeros.bytes);
    for (const slab of this.#slabs(zeros, units.zeros, groups)) {
      const args = [this.#slab.at, format.bits, offset, out, slab.first, slab.end, this.#places, zerosAt, tileBytes, placeBytes];
      const again = slab.step.offset < this.#zerosSeen;
      yield { ...slab.step, again, command: { kernel: "pack_zeros", args }, tileFrom: 0, tileTo: tiles };
    }
  }

  *#codes(layout: QuantizedLayout, order: InputOrder, form: PackedFacts["form"]): Generator<PackStep, void, void> {
    const { format, out, in: inputs } = this.#spec;
    if (format.kind !== "gptq") return;
    const { blockSize, scaleBytes, recordBytes, tileBytes, tiles, codes } = layout;
    const { weight } = slabUnits(this.#spec);
    const to = this.#place.weights + (form === "segments" ? 0 : scaleBytes);
    // 31: one block holds the whole tile.
    const where = [to, tileBytes, form === "segments" ? 31 : Math.log2(blockSize), recordBytes];
    const words = order.permutation === null && (format.bits === 4 || format.bits === 8);
    const inverse = order.permutation === null ? 0 : this.#inverse;
    const tensor = this.#tensor("qweight", Math.ceil((inputs * format.bits) / 32) * out * 4);
    for (const slab of this.#slabs(tensor, weight, inputs)) {
      const rows = slab.end - slab.first;
      const command: PackCommand = words
        ? {
            kernel: format.bits === 4 ? "pack_nibble_words" : "pack_byte_words",
            args: [this.#slab.at, slab.first, rows, out, ...where],
          }
        : {
            kernel: "pack_codes",
            args: [this.#slab.at, format.bits, slab.first, rows, out, inverse, codes === "bytes" ? 1 : 0, ...where],
          };
      yield { ...slab.step, command, tileFrom: 0, tileTo: tiles };
    }
  }

  *#bias(): Generator<PackStep, void, void> {
    const { out } = this.#spec;
    const tensor = this.#tensor("bias");
    const args = [this.#slab.at, dtypeOf(tensor), out, this.#place.bias];
    const command: PackCommand = { kernel: "pack_bias", args };
    yield {
      tensor,
      offset: 0,
      bytes: tensor.bytes,
      at: this.#slab.at,
      again: false,
      command,
      tileFrom: 0,
      tileTo: this.layout.tiles,
    };
  }

  /** Whole units of a tensor, as many as fit in the staging area at a time. */
  *#slabs(tensor: TensorInfo, unit: SlabUnit, rows: number) {
    const units = Math.ceil(rows / unit.rows);
    const most = Math.floor(this.#slab.bytes / unit.bytes);
    for (let from = 0; from < units; from += most) {
      const to = Math.min(units, from + most);
      const offset = from * unit.bytes;
      const bytes = Math.min(to * unit.bytes, tensor.bytes) - offset;
      yield {
        first: from * unit.rows,
        end: Math.min(rows, to * unit.rows),
        step: { tensor, offset, bytes, at: this.#slab.at, again: false },
      };
    }
  }

  #tensor(part: string, bytes?: number): TensorInfo {
    const name = `${this.#spec.name}.${part}`;
    const tensor = this.#tensors.get(name);
    if (!tensor) throw new CpuLoadError(`the checkpoint has no tensor ${name}`);
    const expected = bytes ?? this.#spec.out * (tensor.dtype === "F32" ? 4 : 2);
    if (tensor.bytes !== expected)
      throw new CpuLoadError(`${name} holds ${tensor.bytes} bytes where the model needs ${expected}`, {
        details: { tensor: name },
      });
    return tensor;
  }
}

function dtypeOf(tensor: TensorInfo): number {
  const { dtype } = tensor;
  if (dtype === "F16" || dtype === "BF16" || dtype === "F32") return PACK_DTYPE[dtype];
  throw new CpuLoadError(`${tensor.name} is ${dtype}, where F16, BF16 or F32 can be read`, { details: { tensor: tensor.name } });
}

function digestOf(permutation: Int32Array | null, table: Int32Array): string {
  const hash = createHash("sha256");
  if (permutation) hash.update(permutation);
  return hash.update("segments").update(table).digest("hex");
}
