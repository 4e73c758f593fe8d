// Tensor maps: what Hopper's copy engine needs to know of a matrix to bring boxes of it into shared
// memory. The driver makes them from pointer, sizes and strides; no device is asked.

import type { CudaDriver } from "./driver/driver.js";
import { addressOf } from "./driver/load.js";
import type { GemmLaunch } from "./gemm-launch.js";
import { BATCH_LINEAR, HALF_LINEAR, type ParameterValues, writeParameters } from "./kernel-parameters.js";

const MAP_BYTES = 128;
const MAP_ALIGNMENT = 64;
/** Inputs of a box: 128 bytes, as wide as the swizzle. */
const BOX_INPUTS = 64;
/** Rows of x in a box: tokens of a tile. */
const TOKEN_ROWS = 128;

// cuda.h: CU_TENSOR_MAP_…
const FLOAT16 = 6;
const INTERLEAVE_NONE = 0;
const SWIZZLE_128B = 3;
const L2_PROMOTION_256B = 3;
const OUT_OF_BOUNDS_ZEROS = 0;

interface HalfMatrix {
  /** Device address of fp16 [rows, columns], a multiple of 16. */
  readonly at: bigint;
  readonly rows: number;
  readonly columns: number;
  /** From row to row, in elements; a multiple of 8. */
  readonly stride: number;
}

/** What a kernel of gemm-launch.ts takes: HalfLinearParams, behind two tensor maps where it wants them. */
export function gemmParameters(
  driver: CudaDriver,
  { boxRows }: GemmLaunch,
  values: ParameterValues<typeof HALF_LINEAR.fields>,
): Uint8Array<ArrayBuffer> {
  const linear = writeParameters(HALF_LINEAR, values);
  if (boxRows === null) return linear;
  const { x, weights, m, n, k, ldx } = values;
  const parameters = new Uint8Array(2 * MAP_BYTES + linear.length);
  parameters.set(tensorMap(driver, { at: x, rows: m, columns: k, stride: ldx }, TOKEN_ROWS), 0);
  parameters.set(tensorMap(driver, { at: weights, rows: n, columns: k, stride: k }, boxRows), MAP_BYTES);
  parameters.set(linear, 2 * MAP_BYTES);
  return parameters;
}

/** What linear_batch_wgmma.cu takes: BatchLinear behind the tensor map of x, f16 [m, k], in boxes of so many tokens. */
export function batchParameters(
  driver: CudaDriver,
  tokens: number,
  x: bigint,
  values: ParameterValues<typeof BATCH_LINEAR.fields>,
): Uint8Array<ArrayBuffer> {
  const linear = writeParameters(BATCH_LINEAR, values);
  const parameters = new Uint8Array(MAP_BYTES + linear.length);
  parameters.set(tensorMap(driver, { at: x, rows: values.m, columns: values.k, stride: values.k }, tokens), 0);
  parameters.set(linear, MAP_BYTES);
  return parameters;
}

/** Boxes of 64 columns × `boxRows`; what lies outside of the matrix is read as zeros. Valid until the next call. */
function tensorMap(driver: CudaDriver, { at, rows, columns, stride }: HalfMatrix, boxRows: number): Uint8Array {
  const map = alignedMap();
  driver.call("cuTensorMapEncodeTiled", [
    map,
    FLOAT16,
    2,
    at,
    BigUint64Array.of(BigInt(columns), BigInt(rows)),
    BigUint64Array.of(BigInt(stride * 2)),
    Uint32Array.of(BOX_INPUTS, boxRows),
    Uint32Array.of(1, 1),
    INTERLEAVE_NONE,
    SWIZZLE_128B,
    L2_PROMOTION_256B,
    OUT_OF_BOUNDS_ZEROS,
  ]);
  return map;
}

let aligned: Uint8Array | undefined;

/** Typed arrays have no alignment of their own, and maps must have one. */
function alignedMap(): Uint8Array {
  if (!aligned) {
    const room = new Uint8Array(MAP_BYTES + MAP_ALIGNMENT);
    const past = Number(addressOf(room) % BigInt(MAP_ALIGNMENT));
    aligned = room.subarray((MAP_ALIGNMENT - past) % MAP_ALIGNMENT).subarray(0, MAP_BYTES);
  }
  return aligned;
}
