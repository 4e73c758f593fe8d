// Tensor maps: what Hopper's copy engine needs to know of a matrix to bring boxes of it into shared
// memory. The driver makes them from pointer, sizes and strides; no device is asked.

import type { CudaDriver } from "../driver/driver.js";
import { addressOf } from "../driver/load.js";
import { type ParameterValues, writeParameters } from "../launch/parameter-layout.js";
import { BATCH_LINEAR, DEFERRED_NORM } from "./batch-layouts.js";
import type { GemmLaunch } from "./gemm-launch.js";
import { HALF_LINEAR, PROMPT_LINEAR } from "./linear-layouts.js";
import type { PromptLaunch } from "./prompt-launch.js";

const MAP_BYTES = 128;
const MAP_ALIGNMENT = 64;
/** Bytes of a row of a box: as wide as the swizzle. */
const BOX_BYTES = 128;
/** Rows of x in a box: tokens of a tile. */
const TOKEN_ROWS = 128;

// cuda.h: CU_TENSOR_MAP_…
const FLOAT16 = 6;
const FLOAT32 = 7;
const INTERLEAVE_NONE = 0;
const SWIZZLE_128B = 3;
const L2_PROMOTION_256B = 3;
const OUT_OF_BOUNDS_ZEROS = 0;

const NO_NORM: ParameterValues<typeof DEFERRED_NORM.fields> = {
  ...{ weight: 0n, squares: 0n, carried: 0n, factors: 0n, eps: 0 },
  ...{ unused0: 0, unused1: 0n, unused2: 0n, unused3: 0n },
};

interface Matrix {
  /** Device address of [rows, columns], a multiple of 16. */
  readonly at: bigint;
  readonly rows: number;
  readonly columns: number;
  /** From row to row, in elements; a multiple of 16 bytes. */
  readonly stride: number;
  /** fp32, else fp16. */
  readonly f32?: boolean;
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

/**
 * What linear_batch_wgmma.cu takes: BatchLinear and DeferredNorm behind the tensor map of x, f16 [m, k], in boxes of so many tokens.
 *
 * @param norm that is put off, of x or of what becomes of the residual stream; default: neither
 */
export function batchParameters(
  driver: CudaDriver,
  tokens: number,
  x: bigint,
  values: ParameterValues<typeof BATCH_LINEAR.fields>,
  norm: Partial<ParameterValues<typeof DEFERRED_NORM.fields>> = {},
): Uint8Array<ArrayBuffer> {
  const linear = writeParameters(BATCH_LINEAR, values);
  const parameters = new Uint8Array(MAP_BYTES + linear.length + DEFERRED_NORM.bytes);
  parameters.set(tensorMap(driver, { at: x, rows: values.m, columns: values.k, stride: values.k }, tokens), 0);
  parameters.set(linear, MAP_BYTES);
  parameters.set(writeParameters(DEFERRED_NORM, { ...NO_NORM, ...norm }), MAP_BYTES + linear.length);
  return parameters;
}

/** Linears that read the same x, for a kernel of prompt-launch.ts. */
export interface PromptValues {
  /** f16 [rows, inputs] */
  readonly x: bigint;
  readonly rows: number;
  readonly inputs: number;
  /** Of y: 0 f16, 1 f32, 2 f32 added to what is there. */
  readonly form: 0 | 1 | 2;
  readonly silu: boolean;
  readonly linears: readonly { readonly weights: bigint; readonly bias: bigint; readonly outputs: number; readonly y: bigint }[];
}

/** PromptLinear behind the tensor maps of x and of every y. */
export function promptParameters(
  driver: CudaDriver,
  { tokens, piece, cluster }: Pick<PromptLaunch, "tokens" | "piece" | "cluster">,
  { x, rows, inputs, form, silu, linears }: PromptValues,
): Uint8Array<ArrayBuffer> {
  const [first, second, third] = linears;
  const linear = writeParameters(PROMPT_LINEAR, {
    weights0: first?.weights ?? 0n,
    weights1: second?.weights ?? 0n,
    weights2: third?.weights ?? 0n,
    bias0: first?.bias ?? 0n,
    bias1: second?.bias ?? 0n,
    bias2: third?.bias ?? 0n,
    n0: first?.outputs ?? 0,
    n1: second?.outputs ?? 0,
    n2: third?.outputs ?? 0,
    m: rows,
    k: inputs,
    form,
    silu: silu ? 1 : 0,
    cut: cluster,
  });
  const parameters = new Uint8Array(4 * MAP_BYTES + linear.length);
  parameters.set(tensorMap(driver, { at: x, rows, columns: inputs, stride: inputs }, tokens), 0);
  const f32 = form !== 0;
  for (const [i, { y, outputs }] of (silu ? linears.slice(0, 1) : linears).entries()) {
    const map = tensorMap(driver, { at: y, rows, columns: outputs, stride: outputs, f32 }, f32 ? piece / 2 : piece);
    parameters.set(map, (1 + i) * MAP_BYTES);
  }
  parameters.set(linear, 4 * MAP_BYTES);
  return parameters;
}

/** Boxes of 128 bytes × `boxRows` rows; what lies outside of the matrix is read as zeros, and never written. Valid until the next call. */
function tensorMap(driver: CudaDriver, { at, rows, columns, stride, f32 = false }: Matrix, boxRows: number): Uint8Array {
  const map = alignedMap();
  const bytes = f32 ? 4 : 2;
  driver.call("cuTensorMapEncodeTiled", [
    map,
    f32 ? FLOAT32 : FLOAT16,
    2,
    at,
    BigUint64Array.of(BigInt(columns), BigInt(rows)),
    BigUint64Array.of(BigInt(stride * bytes)),
    Uint32Array.of(BOX_BYTES / bytes, boxRows),
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
