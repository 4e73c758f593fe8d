// How the CPU backend stores a linear: integer codes, cut so that a kernel reads one linear
// (or one thread's part of it) as a single sequential stream.
//
// A tile is 16 output rows. A tile holds, per block of `blockSize` inputs, one record:
//
//   scales [16] f16 or f32 · zeros [16] u8 · codes
//
// Where all zeros of 4-bit weights with f16 scales turn out to be 8, they are left out.
//
// Codes of at most 4 bits are nibbles: a 64-byte line holds 16 rows × 8 inputs, four bytes a
// row, exactly GPTQ's own word order (input 8t + j in bits 4j … 4j+3). Codes of 8 bits are
// bytes: a line holds 16 rows × 4 inputs, first inputs 0 and 1 of every row, then 2 and 3. 2- and
// 3-bit codes are widened to nibbles; plain weights are rounded to 8 bits, one scale per row and
// block.
//
// Where a group of inputs cannot be cut into blocks (a group size such as 24, or a g_idx with
// unequal groups) the linear is stored in segments instead: inputs sorted by group, the codes
// of a tile first, then scales and zeros once per group, and after all tiles a table of
// segments. Which of the two a linear with a g_idx needs only its contents show, so room for
// either is reserved. This file is pure; sizes here are what the plan counts.

import type { LinearSpec } from "../../model/spec.js";

/** Output rows of a tile. */
export const TILE_ROWS = 16;
/** Most inputs that share one activation scale. */
export const MAX_BLOCK = 128;
/** Bytes of one entry of the segment table: first input, length, group, offset of its activations; i32 each. */
export const SEGMENT_ENTRY_BYTES = 16;
/** Scale and sum in front of the codes of every block of activations. */
export const ACTIVATION_HEAD_BYTES = 16;

/** Scratch for products with many tokens in front of the activations: a lock per slot, then the slots (wasm/quantized-slot.ts has the same numbers). */
export const SLOTS = 64;
export const SLOT_BYTES = 4288;
export const SLOT_AREA_BYTES = SLOTS * 4 + SLOTS * SLOT_BYTES;

export interface QuantizedLayout {
  readonly codes: "nibbles" | "bytes";
  /** Inputs that share a scale in one record, and one activation scale. */
  readonly blockSize: 128 | 64 | 32;
  readonly blocks: number;
  /** blocks · blockSize. */
  readonly paddedIn: number;
  readonly tiles: number;
  /** Rows of the scales tensor; for plain weights the blocks. */
  readonly groups: number;
  readonly scaleType: "f16" | "f32";
  /** Scales and zeros of 16 rows. */
  readonly scaleBytes: number;
  /** One block of one tile. */
  readonly recordBytes: number;
  readonly tileBytes: number;
  /** Whether headers allow records, segments, or leave it to the contents. */
  readonly form: "records" | "segments" | "either";
  /** Most entries of the segment table. */
  readonly maxSegments: number;
  /** Offset of the segment table in the weights region: behind the tiles. */
  readonly segmentTable: number;
  readonly weightBytes: number;
  /** Bytes of one activation code. */
  readonly activationCodeBytes: 1 | 2;
  /** Largest magnitude of an activation code. */
  readonly activationLimit: 127 | 511;
}

/** What one named buffer of a linear needs, bytes. */
export interface LinearRegions {
  readonly name: "weights" | "permutation" | "bias";
  readonly bytes: number;
}

const align = (bytes: number, to: number) => Math.ceil(bytes / to) * to;

/** Where everything of a linear lies; from its headers alone. */
export function quantizedLayout(linear: LinearSpec): QuantizedLayout {
  const { format } = linear;
  const gptq = format.kind === "gptq";
  const codes = gptq && format.bits <= 4 ? "nibbles" : "bytes";
  const codeBytes = codes === "nibbles" ? 0.5 : 1;
  const groupSize = gptq ? Math.min(format.groupSize, linear.in) : linear.in;
  const oneGroup = groupSize >= linear.in;
  const blockSize = oneGroup ? blockFor(linear.in) : groupSize % 128 === 0 ? 128 : groupSize % 64 === 0 ? 64 : 32;
  const blocks = Math.ceil(linear.in / blockSize);
  const paddedIn = blocks * blockSize;
  const tiles = Math.ceil(linear.out / TILE_ROWS);
  const groups = gptq ? Math.ceil(linear.in / groupSize) : blocks;
  const form = !gptq || oneGroup ? "records" : groupSize % 32 !== 0 ? "segments" : format.gIdx ? "either" : "records";

  const scaleType = gptq && codes === "nibbles" && format.scaleDtype === "f16" ? "f16" : "f32";
  const scaleBytes = TILE_ROWS * (scaleType === "f16" ? 2 : 4) + TILE_ROWS;
  const recordBytes = scaleBytes + blockSize * TILE_ROWS * codeBytes;
  const records = blocks * recordBytes;
  const segments = paddedIn * TILE_ROWS * codeBytes + groups * scaleBytes;
  const tileBytes = form === "records" ? records : form === "segments" ? segments : Math.max(records, segments);
  const maxSegments = form === "records" ? 0 : groups + Math.floor(linear.in / MAX_BLOCK);
  const segmentTable = tiles * tileBytes;
  return {
    codes,
    blockSize,
    blocks,
    paddedIn,
    tiles,
    groups,
    scaleType,
    scaleBytes,
    recordBytes,
    tileBytes,
    form,
    maxSegments,
    segmentTable,
    weightBytes: segmentTable + maxSegments * SEGMENT_ENTRY_BYTES,
    activationCodeBytes: codes === "nibbles" ? 1 : 2,
    activationLimit: codes === "nibbles" ? 127 : 511,
  };
}

/** Whether zeros can be left out where all of them are 8. Only contents show that they are, so the plan counts them. */
export function maySkipZeros({ codes, scaleType, form }: QuantizedLayout): boolean {
  return codes === "nibbles" && scaleType === "f16" && form !== "segments";
}

/** The layout of records without zeros, in front of the room that is kept for them. */
export function withoutZeros(layout: QuantizedLayout): QuantizedLayout {
  const recordBytes = layout.recordBytes - TILE_ROWS;
  return { ...layout, scaleBytes: layout.scaleBytes - TILE_ROWS, recordBytes, tileBytes: layout.blocks * recordBytes };
}

/** The buffers of a linear, for the plan; each must begin at a multiple of 16. */
export function quantizedRegions(linear: LinearSpec): LinearRegions[] {
  const layout = quantizedLayout(linear);
  const regions: LinearRegions[] = [{ name: "weights", bytes: layout.weightBytes }];
  if (linear.format.kind === "gptq" && linear.format.gIdx) regions.push({ name: "permutation", bytes: linear.in * 4 });
  if (linear.bias) regions.push({ name: "bias", bytes: layout.tiles * TILE_ROWS * 4 });
  return regions;
}

/** Scratch for the quantised activations of `maxTokens` tokens, bytes; begins at a multiple of 64. */
export function activationBytes(linear: LinearSpec, maxTokens: number): number {
  const layout = quantizedLayout(linear);
  const records = layout.blocks * activationRecordBytes(layout);
  const perToken = layout.form === "records" ? records : Math.max(records, maxSegmentedActivation(layout, linear.in));
  return SLOT_AREA_BYTES + maxTokens * perToken;
}

/** One block of one token's activations: scale f32, −sum i32, codes. */
export function activationRecordBytes(layout: QuantizedLayout): number {
  return ACTIVATION_HEAD_BYTES + layout.blockSize * layout.activationCodeBytes;
}

/** A segment's activations cover whole lines of 8 inputs and end at a multiple of 16 bytes. */
export function segmentActivationBytes(layout: QuantizedLayout, start: number, length: number): number {
  const span = align(start + length, 8) - (start - (start % 8));
  return ACTIVATION_HEAD_BYTES + align(span * layout.activationCodeBytes, 16);
}

function maxSegmentedActivation(layout: QuantizedLayout, inputs: number): number {
  const { maxSegments, activationCodeBytes: unit } = layout;
  return align(inputs * unit + maxSegments * (ACTIVATION_HEAD_BYTES + 14 * unit + 15), 16);
}

function blockFor(inputs: number): 128 | 64 | 32 {
  return inputs > 64 ? 128 : inputs > 32 ? 64 : 32;
}
