// Quantised linears of some dozens of tokens. On Hopper one launch does it all (kernels/linear_batch_wgmma.cu); elsewhere a
// launch leaves sums of pieces of k, and another adds them up and makes of them what the step goes on with
// (kernels/linear_batch.cu). The pieces lie in the scratch that slabs are expanded in.

import { type BatchLaunch, type BatchShape, batchLaunch, hasBatchKernel, LEAST_BATCHED } from "./batch-launch.js";
import { type WgmmaBatchLaunch, wgmmaBatchLaunch } from "./batch-launch-wgmma.js";
import { gatherInputs } from "./gather-inputs.js";
import { BATCH, BATCH_SUM, writeParameters } from "./kernel-parameters.js";
import type { KernelQueue } from "./kernel-queue.js";
import { paddedInputs } from "./quantized-layout.js";
import type { PlacedLinear } from "./stage.js";
import { batchParameters } from "./tensor-map.js";

/** What becomes of a product. */
export type BatchResult =
  /** f16, each linear's in its own place. */
  | { readonly kind: "outputs"; readonly y: readonly bigint[] }
  /** silu(first) · second, f16. */
  | { readonly kind: "gated"; readonly y: bigint }
  /** Added to the residual stream, f32; and RMSNorm of what that is then, f16. */
  | { readonly kind: "residual"; readonly residual: bigint; readonly norm: RowNorm | null };

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
  readonly rows: number;
  readonly role: string;
  readonly result: BatchResult;
}

export interface BatchScratch {
  readonly expanded: bigint;
  readonly expandedBytes: number;
  /** f16 [rows, in], or 0n where the plan has none */
  readonly gathered: bigint;
  /** Counters behind which pieces meet, zero between launches. */
  readonly arrivals: bigint;
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
  if (call.rows < LEAST_BATCHED) return null;
  const shape = shapeOf(linears, call);
  if (shape === null) return null;
  const { card } = queue.context;
  const wgmma = wgmmaBatchLaunch(shape, card);
  const launch = wgmma ? null : batchLaunch(shape, card);
  const pieceBytes = (wgmma ?? launch)?.pieceBytes;
  if (pieceBytes === undefined || pieceBytes > scratch.expandedBytes) return null;
  const gathered = { ...call, x: gatherInputs(queue, linears[0]!, call.x, call.rows, scratch.gathered) };
  if (wgmma) runWgmma(queue, linears, gathered, wgmma, scratch);
  if (launch) runPieces(queue, linears, gathered, launch, scratch.expanded);
  return { normed: launch !== null && call.result.kind === "residual" && call.result.norm !== null };
}

function shapeOf(linears: readonly PlacedLinear[], { rows, result }: BatchCall): BatchShape | null {
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
  return { bits: format.bits, group, rows, inputs: first.spec.in, outputs, paired: result.kind === "gated" };
}

/** On Hopper: one launch, in which the last to bring a piece makes the results. */
function runWgmma(
  queue: KernelQueue,
  linears: readonly PlacedLinear[],
  { x, rows, role, result }: BatchCall,
  { name, grid, block, shared, tokens, units }: WgmmaBatchLaunch,
  { expanded, arrivals }: BatchScratch,
): void {
  const [n0 = 0, n1 = 0, n2 = 0] = linears.map(({ spec }) => spec.out);
  const y = result.kind === "outputs" ? result.y : result.kind === "gated" ? [result.y] : [];
  const parameters = batchParameters(queue.context.driver, tokens, x, {
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
    pieces: expanded,
    arrivals,
    ...{ n0, n1, n2, m: rows, k: linears[0]!.spec.in },
    silu: result.kind === "gated" ? 1 : 0,
    units,
    unused: 0,
  });
  const bytes = linears.reduce((sum, { weightBytes }) => sum + weightBytes, 0);
  queue.run({ family: "linear_batch_wgmma", name, grid: [grid], block, shared, parameters, role, bytes });
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
