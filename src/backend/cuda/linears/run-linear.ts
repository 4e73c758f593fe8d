// y = W x (+ bias) (+ residual) for any linear and any number of tokens, by the kernel that suits:
// few tokens stream the weights through the tensor cores as they are stored, some dozens multiply them in pieces
// (run-batch.ts); whole prompts unpack them inside the product where there is a kernel for that (run-prompt.ts), or
// expand them to fp16 a slab at a time and multiply tiles.

import type { KernelQueue } from "../launch/kernel-queue.js";
import { writeParameters } from "../launch/parameter-layout.js";
import type { PlacedLinear, Stage } from "../steps/stage.js";
import type { QuantizedStorage } from "../weights/linear-storage.js";
import { CHUNK, paddedInputs, TILE_ROWS, tileBytes } from "../weights/quantized-layout.js";
import { EXPAND_IRREGULAR } from "../weights/weight-layouts.js";
import { gatherInputs } from "./gather-inputs.js";
import { gemmLaunch, gemmSlabRows, hasWgmma } from "./gemm-launch.js";
import { MOST_STREAMED, streamedRows, streamLaunch } from "./linear-launch.js";
import { EXPAND, HALF_LINEAR, STREAM } from "./linear-layouts.js";
import { type BatchResult, type DeferredInput, type DeferredOutput, type RowNorm, runBatch } from "./run-batch.js";
import { runPrompt } from "./run-prompt.js";
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
  /** What the linears are to the step, for profiles. */
  readonly role: string;
  /** x is in the order of codes: where takesOrdered() of run-batch.ts says so. */
  readonly ordered?: boolean;
  /** RMSNorm that x, f32 then, goes through first; only where takesNorm() says so. */
  readonly norm?: NormOfRows;
  /** x's norm was put off: only where takesDeferred() of run-batch.ts says so. */
  readonly deferred?: DeferredInput;
}

export interface NormOfRows {
  /** f16 [in] */
  readonly weight: bigint;
  readonly eps: number;
}

/** Buffers for many tokens. */
export interface LinearScratch {
  readonly expanded: bigint;
  readonly expandedBytes: number;
  /** f16 [rows, in], or 0n where the plan has none */
  readonly gathered: bigint;
  /** Pieces of products on Hopper, 0xffffffff between launches; or 0n where the plan has none. */
  readonly pieces: bigint;
  readonly pieceBytes: number;
}

export function linearScratchOf(stage: Stage): LinearScratch {
  return {
    expanded: stage.at("scratch.expanded"),
    expandedBytes: stage.size("scratch.expanded"),
    gathered: stage.has("scratch.gathered") ? stage.at("scratch.gathered") : 0n,
    pieces: stage.has("scratch.pieces") ? stage.at("scratch.pieces") : 0n,
    pieceBytes: stage.has("scratch.pieces") ? stage.size("scratch.pieces") : 0,
  };
}

const GEMV_COLUMNS = [8, 32] as const;
/** Most rows that fp16 weights are streamed for: then tiles are faster, on Hopper's instructions from 17 on (the head of a 7B on an H200, 32 rows: 97 µs streamed). */
const MOST_STREAMED_HALF = { wgmma: 16, else: MOST_STREAMED } as const;

export function runLinear(queue: KernelQueue, linear: PlacedLinear, call: LinearCall, scratch: LinearScratch): void {
  if (!call.f32 && runBatch(queue, [linear], { ...call, result: { kind: "outputs", y: [call.y] } }, scratch)) return;
  if (linear.storage.kind === "half") runHalf(queue, linear, call, { weights: linear.weights, first: 0, count: linear.spec.out });
  else if (linear.groupOf !== 0n) runIrregular(queue, linear, linear.storage, call, scratch);
  else if (call.rows <= MOST_STREAMED) runStreamed(queue, [linear], { ...call, y: [call.y] });
  else if (!runPrompt(queue, [linear], { ...call, y: [call.y] }, scratch))
    runExpanded(queue, linear, linear.storage, call, scratch);
}

/**
 * Adds y = W x (+ bias) to the residual stream, f32.
 *
 * @param norm RMSNorm of what the residual stream is then
 * @param deferred what is left for that norm, where it is put off
 * @returns whether that has been done; false: it is left to a launch of its own
 */
export function runResidual(
  queue: KernelQueue,
  linear: PlacedLinear,
  call: Pick<LinearCall, "x" | "rows" | "residual" | "role" | "ordered">,
  norm: RowNorm | null,
  scratch: LinearScratch,
  deferred: DeferredOutput | null = null,
): boolean {
  const { residual } = call;
  const result = { kind: "residual", residual, norm, deferred } as const;
  const batched = runBatch(queue, [linear], { ...call, result }, scratch);
  if (batched) return batched.normed;
  runLinear(queue, linear, { ...call, y: residual, f32: true }, scratch);
  return false;
}

/**
 * Most rows that linears normalise themselves. Each of their blocks does it again: beyond, one launch that does it once
 * costs less (7B on an H100, µs per layer at 4 and 8 rows: 62 and 81 inside, 59 and 72 apart).
 */
const MOST_NORMED = 2;

/** Whether these linears, for so many rows, normalise their x themselves. */
export function takesNorm(linears: readonly PlacedLinear[], rows: number): boolean {
  return rows <= MOST_NORMED && linears.every(({ storage, groupOf }) => storage.kind === "quantized" && groupOf === 0n);
}

/** What several linears make of the same x. */
export interface LinearsCall extends Omit<LinearCall, "y"> {
  /** Of each linear. */
  readonly y: readonly bigint[];
}

/** Linears that read the same x, in one launch where their kernels allow it. */
export function runLinears(
  queue: KernelQueue,
  linears: readonly PlacedLinear[],
  call: LinearsCall,
  scratch: LinearScratch,
): void {
  const result: BatchResult = { kind: "outputs", y: call.y };
  if (!call.norm && runBatch(queue, linears, { ...call, result }, scratch)) return;
  const together = streamTogether(linears);
  if (together && call.rows <= MOST_STREAMED) runStreamed(queue, linears, call);
  else if (!together || !runPrompt(queue, linears, call, scratch))
    for (const [i, linear] of linears.entries()) runLinear(queue, linear, { ...call, y: call.y[i]! }, scratch);
}

/**
 * y = silu(gate x) · (up x) in one launch, f16.
 *
 * @returns false where the kernels do not allow it and nothing was launched
 */
export function runGated(
  queue: KernelQueue,
  gate: PlacedLinear,
  up: PlacedLinear,
  call: LinearCall & { readonly orderedY?: boolean },
  scratch: LinearScratch,
): boolean {
  const result: BatchResult = { kind: "gated", y: call.y, ordered: call.orderedY ?? false };
  if (!call.norm && runBatch(queue, [gate, up], { ...call, result }, scratch)) return true;
  if (!streamTogether([gate, up])) return false;
  const both = { ...call, y: [call.y, 0n] };
  if (call.rows > MOST_STREAMED) return runPrompt(queue, [gate, up], both, scratch, true);
  runStreamed(queue, [gate, up], both, true);
  return true;
}

/** Weights that one launch can stream: quantised alike, inputs in their own order (act-order's differ from linear to linear). */
function streamTogether(linears: readonly PlacedLinear[]): boolean {
  const [first] = linears;
  return linears.every(
    ({ storage, permutation, groupOf, spec }) =>
      storage.kind === "quantized" &&
      first?.storage.kind === "quantized" &&
      storage.format.bits === first.storage.format.bits &&
      storage.group === first.storage.group &&
      spec.in === first.spec.in &&
      permutation === 0n &&
      groupOf === 0n,
  );
}

function runStreamed(queue: KernelQueue, linears: readonly PlacedLinear[], call: LinearsCall, silu = false): void {
  const { storage, spec, permutation } = linears[0]!;
  if (storage.kind !== "quantized") throw new Error(`${spec.name} is not quantised`);
  const { card } = queue.context;
  const outputs = linears.map((linear) => linear.spec.out);
  const of = { bits: storage.format.bits, group: storage.group, inputs: spec.in, outputs, silu };
  const [n0, n1, n2] = [outputs[0]!, outputs[1] ?? 0, outputs[2] ?? 0];
  for (let row = 0, rows = 0; row < call.rows; row += rows) {
    rows = streamedRows({ ...of, rows: call.rows - row }, card);
    const { name, grid, block, shared, slab, stages } = streamLaunch({ ...of, rows }, card);
    const y = (i: number) => (call.y[i] ? call.y[i]! + BigInt(row * outputs[i]! * (call.f32 ? 4 : 2)) : 0n);
    const weights = (i: number) => linears[i]?.weights ?? 0n;
    const bias = (i: number) => linears[i]?.bias ?? 0n;
    const parameters = writeParameters(STREAM, {
      weights0: weights(0),
      weights1: weights(1),
      weights2: weights(2),
      bias0: bias(0),
      bias1: bias(1),
      bias2: bias(2),
      y0: y(0),
      y1: y(1),
      y2: y(2),
      x: call.x + BigInt(row * spec.in * (call.norm ? 4 : 2)),
      norm: call.norm?.weight ?? 0n,
      permutation,
      residual: call.residual === 0n ? 0n : call.residual + BigInt(row * n0 * 4),
      n0,
      n1,
      n2,
      ldy0: n0,
      ldy1: n1,
      ldy2: n2,
      m: rows,
      k: paddedInputs(spec.in),
      kValid: spec.in,
      ldx: spec.in,
      yIsF32: call.f32 ? 1 : 0,
      silu: silu ? 1 : 0,
      slab,
      stages,
      eps: call.norm?.eps ?? 0,
      unused: 0,
    });
    const bytes = linears.reduce((sum, { weightBytes }) => sum + weightBytes, 0);
    queue.run({ family: "linear_stream", name, grid: [grid], block, shared, parameters, role: call.role, bytes });
  }
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
  const x = gatherInputs(queue, linear, call.x, call.rows, scratch.gathered);
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
      role: `${call.role}, expanding`,
      bytes: tiles * tile + some * inputs * 2,
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
      role: `${call.role}, expanding`,
      bytes: Math.ceil(count / TILE_ROWS) * tile + count * inputs * 2,
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
  const of = { role: call.role, bytes: rows.count * linear.spec.in * 2 };
  const { context } = queue;
  if (call.rows <= MOST_STREAMED_HALF[hasWgmma(context.card) ? "wgmma" : "else"]) {
    const columns = GEMV_COLUMNS.find((most) => call.rows <= most)!;
    const grid = [Math.ceil(rows.count / TILE_ROWS)] as const;
    const parameters = writeParameters(HALF_LINEAR, values);
    queue.run({ family: "linear_half_gemv", name: `linear_half_gemv_m${columns}`, grid, block: 256, parameters, ...of });
    return;
  }
  const launch = gemmLaunch(context.card, { m: call.rows, n: rows.count });
  queue.run({ family: "linear_half", ...launch, parameters: gemmParameters(context.driver, launch, values), ...of });
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
