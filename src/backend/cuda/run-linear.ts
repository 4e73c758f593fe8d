// y = W x (+ bias) (+ residual) for any linear and any number of tokens, by the kernel that suits:
// few tokens stream the weights through the tensor cores as they are stored; many tokens
// expand them to fp16 a slab at a time and multiply tiles.

import { gemmLaunch, gemmSlabRows } from "./gemm-launch.js";
import { EXPAND, EXPAND_IRREGULAR, GATHER, HALF_LINEAR, LINEAR, writeParameters } from "./kernel-parameters.js";
import type { KernelQueue } from "./kernel-queue.js";
import type { QuantizedStorage } from "./linear-storage.js";
import { CHUNK, paddedInputs, TILE_ROWS, tileBytes } from "./quantized-layout.js";
import type { PlacedLinear } from "./stage.js";
import { gemmParameters } from "./tensor-map.js";

export interface LinearCall {
  /** f16 [rows, in] */
  readonly x: bigint;
  /** [rows, out], f16 or f32 */
  readonly y: bigint;
  readonly rows: number;
  readonly f32: boolean;
  /** f32 [rows, out] added to the result, may be `y`; 0n: none */
  readonly residual: bigint;
}

/** Buffers for many tokens. */
export interface LinearScratch {
  readonly expanded: bigint;
  readonly expandedBytes: number;
  /** f16 [rows, in], or 0n where the plan has none */
  readonly gathered: bigint;
}

/** Most rows of the kernels that read weights as they are stored. */
const MOST_STREAMED = 32;
/** Rows that plain weights are streamed for; beyond, reading them once per eight rows costs more than tiles that are mostly empty. */
const MOST_HALF_STREAMED = 8;

export function runLinear(queue: KernelQueue, linear: PlacedLinear, call: LinearCall, scratch: LinearScratch): void {
  if (linear.storage.kind === "half") runHalf(queue, linear, call, { weights: linear.weights, first: 0, count: linear.spec.out });
  else if (linear.groupOf !== 0n) runIrregular(queue, linear, linear.storage, call, scratch);
  else if (call.rows <= MOST_STREAMED) runStreamed(queue, linear, linear.storage, call);
  else runExpanded(queue, linear, linear.storage, call, scratch);
}

function runStreamed(queue: KernelQueue, linear: PlacedLinear, { format, group }: QuantizedStorage, call: LinearCall): void {
  const { spec } = linear;
  queue.run({
    family: "linear_quantized",
    name: `linear_q${format.bits}_g${group}_m${call.rows <= 8 ? 8 : 32}`,
    grid: [Math.ceil(spec.out / TILE_ROWS)],
    block: 256,
    parameters: writeParameters(LINEAR, {
      weights: linear.weights,
      x: call.x,
      permutation: linear.permutation,
      bias: linear.bias,
      residual: call.residual,
      y: call.y,
      m: call.rows,
      n: spec.out,
      k: paddedInputs(spec.in),
      kValid: spec.in,
      ldx: spec.in,
      ldy: spec.out,
      zeroOffset: 0, // true zeros are stored, see load-linear.ts
      yIsF32: call.f32 ? 1 : 0,
    }),
  });
}

/** Outputs that are expanded and multiplied at once. */
function slabRows({ context }: KernelQueue, linear: PlacedLinear, call: LinearCall, scratch: LinearScratch): number {
  const { in: k, out: n } = linear.spec;
  const most = Math.floor(scratch.expandedBytes / (k * 2) / TILE_ROWS) * TILE_ROWS;
  return gemmSlabRows(context.card, { m: call.rows, n, k }, most);
}

function runExpanded(
  queue: KernelQueue,
  linear: PlacedLinear,
  { format, group }: QuantizedStorage,
  call: LinearCall,
  scratch: LinearScratch,
): void {
  const { in: inputs, out } = linear.spec;
  const k = paddedInputs(inputs);
  let { x } = call;
  if (linear.permutation !== 0n) {
    queue.run({
      family: "linear_half",
      name: "gather_columns",
      grid: [Math.ceil(inputs / 256), call.rows],
      block: 256,
      parameters: writeParameters(GATHER, {
        x,
        permutation: linear.permutation,
        gathered: scratch.gathered,
        k: inputs,
        ldx: inputs,
      }),
    });
    x = scratch.gathered;
  }
  const rows = slabRows(queue, linear, call, scratch);
  const tile = tileBytes(format.bits, group, inputs);
  for (let first = 0; first < out; first += rows) {
    const some = Math.min(rows, out - first);
    const tiles = Math.ceil(some / TILE_ROWS);
    queue.run({
      family: "linear_half",
      name: `expand_q${format.bits}_g${group}`,
      grid: [Math.ceil(k / (CHUNK * 8)), tiles],
      block: 256,
      parameters: writeParameters(EXPAND, {
        weights: linear.weights + BigInt((first / TILE_ROWS) * tile),
        expanded: scratch.expanded,
        firstTile: 0,
        tiles,
        k,
        ld: inputs,
        zeroOffset: 0, // true zeros are stored, see load-linear.ts
        unused: 0,
      }),
    });
    runHalf(queue, linear, { ...call, x }, { weights: scratch.expanded, first, count: some });
  }
}

/** Expanded whatever the number of tokens: see expand_irregular.cu. */
function runIrregular(
  queue: KernelQueue,
  linear: PlacedLinear,
  { format, group }: QuantizedStorage,
  call: LinearCall,
  scratch: LinearScratch,
): void {
  const { in: inputs, out } = linear.spec;
  const k = paddedInputs(inputs);
  const rows = slabRows(queue, linear, call, scratch);
  const tile = tileBytes(format.bits, group, inputs);
  for (let first = 0; first < out; first += rows) {
    const count = Math.min(rows, out - first);
    queue.run({
      family: "expand_irregular",
      name: `expand_irregular_q${format.bits}_g${group}`,
      grid: [Math.ceil(k / (CHUNK * 8)), Math.ceil(count / TILE_ROWS)],
      block: 256,
      parameters: writeParameters(EXPAND_IRREGULAR, {
        weights: linear.weights + BigInt((first / TILE_ROWS) * tile),
        groupOf: linear.groupOf,
        expanded: scratch.expanded,
        k,
        ld: inputs,
      }),
    });
    runHalf(queue, linear, call, { weights: scratch.expanded, first, count });
  }
}

/** Some outputs of a linear whose fp16 weights [count, in] lie at `weights`. */
interface HalfRows {
  readonly weights: bigint;
  readonly first: number;
  readonly count: number;
}

function runHalf(queue: KernelQueue, linear: PlacedLinear, call: LinearCall, rows: HalfRows): void {
  const values = halfValues(linear, call, rows);
  if (call.rows <= MOST_HALF_STREAMED) {
    const grid = [Math.ceil(rows.count / 8), 1] as const;
    queue.run({
      family: "linear_half",
      name: "linear_half_gemv",
      grid,
      block: 256,
      parameters: writeParameters(HALF_LINEAR, values),
    });
    return;
  }
  const { context } = queue;
  const launch = gemmLaunch(context.card, { m: call.rows, n: rows.count });
  queue.run({ family: "linear_half", ...launch, parameters: gemmParameters(context.driver, launch, values) });
}

function halfValues({ spec, bias }: PlacedLinear, call: LinearCall, { weights, first, count }: HalfRows) {
  const at = (pointer: bigint, bytes: number) => (pointer === 0n ? 0n : pointer + BigInt(first * bytes));
  return {
    weights,
    x: call.x,
    bias: at(bias, 2),
    residual: at(call.residual, 4),
    y: at(call.y, call.f32 ? 4 : 2),
    m: call.rows,
    n: count,
    k: spec.in,
    ldx: spec.in,
    ldy: spec.out,
    yIsF32: call.f32 ? 1 : 0,
  };
}
