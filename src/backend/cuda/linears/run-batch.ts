// Quantised linears of some dozens of tokens. On Hopper one launch does it all (kernels/linear_batch_wgmma.cu or
// linear_batch_cluster.cu); elsewhere a
// launch leaves sums of pieces of k, and another adds them up and makes of them what the step goes on with
// (kernels/linear_batch.cu), whose pieces lie in the scratch that slabs are expanded in. Hopper's have a place of their own.

import type { KernelQueue } from "../launch/kernel-queue.js";
import { writeParameters } from "../launch/parameter-layout.js";
import type { PlacedLinear } from "../steps/stage.js";
import { paddedInputs } from "../weights/quantized-layout.js";
import { type BatchLaunch, type BatchShape, batchLaunch, hasBatchKernel, LEAST_BATCHED } from "./batch-launch.js";
import { deferredPlaces, LEAST_WGMMA_BATCHED, type WgmmaBatchLaunch, wgmmaBatchLaunch } from "./batch-launch-wgmma.js";
import { BATCH, BATCH_SUM } from "./batch-layouts.js";
import { gatherInputs } from "./gather-inputs.js";
import type { GemmCard } from "./gemm-launch.js";
import { batchParameters } from "./tensor-map.js";

/** What becomes of a product. */
export type BatchResult =
  /** f16, each linear's in its own place. */
  | { readonly kind: "outputs"; readonly y: readonly bigint[] }
  /** silu(first) · second, f16; `ordered`: in the order of codes, where takesOrdered() says so of whoever reads it. */
  | { readonly kind: "gated"; readonly y: bigint; readonly ordered?: boolean }
  /** Added to the residual stream, f32; and RMSNorm of what that is then, f16. */
  | {
      readonly kind: "residual";
      readonly residual: bigint;
      readonly norm: RowNorm | null;
      /** Left for the norm that follows, in place of `norm`: where takesDeferred() says so. */
      readonly deferred?: DeferredOutput | null;
    };

/** RMSNorm put off, as kernels/deferred_norm.cuh says: of a residual stream that has just been added to. */
export interface DeferredOutput {
  /** f16 [out] */
  readonly weight: bigint;
  /** f16 [rows, out] */
  readonly y: bigint;
  /** f32 [out / 16, places] */
  readonly squares: bigint;
  /** f32 [places]: each token's factor of the norm before, which is in y */
  readonly carried: bigint;
}

/** The same, of the x that has come of it. */
export interface DeferredInput {
  /** f32 [in / 16, places] */
  readonly squares: bigint;
  /** f32 [places]: what is in x */
  readonly carried: bigint;
  /** f32 [places]: where each token's factor is left */
  readonly factors: bigint;
  readonly eps: number;
}

export interface RowNorm {
  /** f16 [out] */
  readonly weight: bigint;
  readonly eps: number;
  /** f16 [rows, out] */
  readonly y: bigint;
}

export interface BatchCall {
  /** f16 [rows, in] */
  readonly x: bigint;
  /** x is in the order of codes (kernels/code_order.cuh): where takesOrdered() says so. */
  readonly ordered?: boolean;
  readonly rows: number;
  readonly role: string;
  readonly result: BatchResult;
  /** x's norm was put off: where takesDeferred() says so. */
  readonly deferred?: DeferredInput | undefined;
}

export interface BatchScratch {
  readonly expanded: bigint;
  readonly expandedBytes: number;
  /** f16 [rows, in], or 0n where the plan has none */
  readonly gathered: bigint;
  /** Pieces of products on Hopper, 0xffffffff between launches; or 0n where the plan has none. */
  readonly pieces: bigint;
  readonly pieceBytes: number;
}

const SUM_THREADS = 256;
const NORM_THREADS = 512;

/**
 * Linears that read the same x.
 *
 * @returns what has been done; `null`: these kernels cannot do it, and nothing was launched
 */
export function runBatch(
  queue: KernelQueue,
  linears: readonly PlacedLinear[],
  call: BatchCall,
  scratch: BatchScratch,
): { readonly normed: boolean } | null {
  const { card } = queue.context;
  const shape = shapeOf(linears, call.rows, call.result.kind === "gated");
  const wgmma = wgmmaOf(shape, card, scratch, call.ordered);
  if (call.ordered && !wgmma) throw new Error(`nothing reads x of ${linears[0]!.spec.name} in the order of codes`);
  const defers = call.deferred !== undefined || (call.result.kind === "residual" && call.result.deferred);
  if (defers && !(wgmma && deferredPlaces(call.rows))) throw new Error(`${linears[0]!.spec.name} puts no norm off`);
  const launch = wgmma || shape === null || call.rows < LEAST_BATCHED ? null : batchLaunch(shape, card);
  if (!wgmma && (!launch || launch.pieceBytes > scratch.expandedBytes)) return null;
  const gathered = { ...call, x: gatherInputs(queue, linears[0]!, call.x, call.rows, scratch.gathered) };
  if (wgmma) runWgmma(queue, linears, gathered, wgmma, scratch);
  if (launch) runPieces(queue, linears, gathered, launch, scratch.expanded);
  return { normed: launch !== null && call.result.kind === "residual" && call.result.norm !== null };
}

/** Whether these linears, for so many rows, read x in the order of codes; `gated`: the two whose product is silu(first) · second. */
export function takesOrdered(
  { context }: KernelQueue,
  linears: readonly PlacedLinear[],
  rows: number,
  gated: boolean,
  scratch: BatchScratch,
): boolean {
  const natural = linears.every(({ permutation }) => permutation === 0n);
  return natural && wgmmaOf(shapeOf(linears, rows, gated), context.card, scratch, true) !== null;
}

/** Whether the kernel of these linears, for so many rows, can put RMSNorms off: that of its x, and that of a residual stream which it adds to. */
export function takesDeferred(
  { context }: KernelQueue,
  linears: readonly PlacedLinear[],
  rows: number,
  gated: boolean,
  scratch: BatchScratch,
): boolean {
  return deferredPlaces(rows) !== null && wgmmaOf(shapeOf(linears, rows, gated), context.card, scratch) !== null;
}

function wgmmaOf(
  shape: BatchShape | null,
  card: GemmCard,
  { pieceBytes }: BatchScratch,
  ordered = false,
): WgmmaBatchLaunch | null {
  if (shape === null || shape.rows < LEAST_WGMMA_BATCHED) return null;
  const launch = wgmmaBatchLaunch(shape, card, ordered);
  return launch !== null && launch.pieceBytes <= pieceBytes ? launch : null;
}

function shapeOf(linears: readonly PlacedLinear[], rows: number, paired: boolean): BatchShape | null {
  const [first] = linears;
  if (first?.storage.kind !== "quantized") return null;
  const { format, group } = first.storage;
  if (!hasBatchKernel(format.bits)) return null;
  const together = linears.every(
    ({ storage, groupOf, permutation, spec }) =>
      storage.kind === "quantized" &&
      storage.format.bits === format.bits &&
      storage.group === group &&
      spec.in === first.spec.in &&
      groupOf === 0n &&
      // Act-order's orders differ from linear to linear.
      (permutation === 0n || linears.length === 1),
  );
  if (!together) return null;
  const outputs = linears.map(({ spec }) => spec.out);
  return { bits: format.bits, group, rows, inputs: first.spec.in, outputs, paired };
}

/** On Hopper: one launch, in which pieces of units are added and made into results, too. */
function runWgmma(
  queue: KernelQueue,
  linears: readonly PlacedLinear[],
  { x, rows, role, result, deferred }: BatchCall,
  { family, name, grid, cluster, block, shared, tokens, units }: WgmmaBatchLaunch,
  { pieces }: BatchScratch,
): void {
  const [n0 = 0, n1 = 0, n2 = 0] = linears.map(({ spec }) => spec.out);
  const y = result.kind === "outputs" ? result.y : [result.kind === "gated" ? result.y : (result.deferred?.y ?? 0n)];
  const linear = {
    weights0: linears[0]!.weights,
    weights1: linears[1]?.weights ?? 0n,
    weights2: linears[2]?.weights ?? 0n,
    bias0: linears[0]!.bias,
    bias1: linears[1]?.bias ?? 0n,
    bias2: linears[2]?.bias ?? 0n,
    y0: y[0] ?? 0n,
    y1: y[1] ?? 0n,
    y2: y[2] ?? 0n,
    residual: result.kind === "residual" ? result.residual : 0n,
    pieces,
    ...{ n0, n1, n2, m: rows, k: linears[0]!.spec.in },
    silu: result.kind === "gated" ? 1 : 0,
    units,
    ordered: result.kind === "gated" && result.ordered ? 1 : 0,
    unused: 0n,
  };
  const norm = result.kind === "residual" && result.deferred ? result.deferred : deferred;
  const parameters = batchParameters(queue.context.driver, tokens, x, linear, norm);
  const bytes = linears.reduce((sum, { weightBytes }) => sum + weightBytes, 0);
  queue.run({ family, name, grid: [grid], cluster, block, shared, parameters, role, bytes });
}

/** Elsewhere: pieces, then what becomes of them. */
function runPieces(
  queue: KernelQueue,
  linears: readonly PlacedLinear[],
  call: BatchCall,
  launch: BatchLaunch,
  pieces: bigint,
): void {
  multiply(queue, linears, call, launch, pieces);
  sumPieces(queue, linears, call, launch, pieces);
}

/** What both launches are told of the product. */
function productOf(linears: readonly PlacedLinear[], { rows, result }: BatchCall, { slices, units }: BatchLaunch) {
  const [n0 = 0, n1 = 0, n2 = 0] = linears.map(({ spec }) => spec.out);
  return { n0, n1, n2, m: rows, paired: result.kind === "gated" ? 1 : 0, slices, units };
}

function multiply(
  queue: KernelQueue,
  linears: readonly PlacedLinear[],
  call: BatchCall,
  launch: BatchLaunch,
  pieces: bigint,
): void {
  const { in: inputs } = linears[0]!.spec;
  const parameters = writeParameters(BATCH, {
    weights0: linears[0]!.weights,
    weights1: linears[1]?.weights ?? 0n,
    weights2: linears[2]?.weights ?? 0n,
    x: call.x,
    pieces,
    ...productOf(linears, call, launch),
    k: paddedInputs(inputs),
    kValid: inputs,
    ldx: inputs,
    stages: launch.stages,
    unused: 0,
  });
  const { name, grid, block, shared } = launch;
  const bytes = linears.reduce((sum, { weightBytes }) => sum + weightBytes, 0);
  queue.run({ family: "linear_batch", name, grid: [grid], block, shared, parameters, role: call.role, bytes });
}

function sumPieces(
  queue: KernelQueue,
  linears: readonly PlacedLinear[],
  call: BatchCall,
  launch: BatchLaunch,
  pieces: bigint,
): void {
  const { rows, role, result } = call;
  const y = result.kind === "outputs" ? result.y : result.kind === "gated" ? [result.y] : [result.norm?.y ?? 0n];
  const norm = result.kind === "residual" ? result.norm : null;
  const parameters = writeParameters(BATCH_SUM, {
    pieces,
    bias0: linears[0]!.bias,
    bias1: linears[1]?.bias ?? 0n,
    bias2: linears[2]?.bias ?? 0n,
    y0: y[0]!,
    y1: y[1] ?? 0n,
    y2: y[2] ?? 0n,
    residual: result.kind === "residual" ? result.residual : 0n,
    norm: norm?.weight ?? 0n,
    ...productOf(linears, call, launch),
    blocks: launch.grid,
    pieceTokens: launch.pieceTokens,
    eps: norm?.eps ?? 0,
  });
  const same = { family: "linear_batch", parameters, role: `${role}, sums` } as const; // of bytes that stay in L2
  if (result.kind === "outputs")
    queue.run({ ...same, name: "batch_sum", grid: [launch.units, Math.ceil(rows / 8)], block: SUM_THREADS });
  else if (result.kind === "gated")
    queue.run({ ...same, name: "batch_silu", grid: [launch.units, Math.ceil(rows / 16)], block: SUM_THREADS });
  else queue.run({ ...same, name: "batch_norm", grid: [rows], block: NORM_THREADS, shared: linears[0]!.spec.out * 4 });
}
