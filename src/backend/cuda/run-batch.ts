// Quantised linears of some dozens of tokens (kernels/linear_batch.cu): a launch that leaves sums of pieces of k, and one that
// adds them up and makes of them what the step goes on with. The pieces lie in the scratch that slabs are expanded in.

import {
  type BatchLaunch,
  type BatchShape,
  batchLaunch,
  hasBatchKernel,
  LEAST_BATCHED,
  MOST_BATCHED,
  MOST_BATCHED_ROWS,
} from "./batch-launch.js";
import { BATCH, BATCH_SUM, GATHER, writeParameters } from "./kernel-parameters.js";
import type { KernelQueue } from "./kernel-queue.js";
import { paddedInputs } from "./quantized-layout.js";
import type { PlacedLinear } from "./stage.js";

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
}

const SUM_THREADS = 256;
const NORM_THREADS = 512;

/**
 * Linears that read the same x.
 *
 * @returns false where these kernels do not do it and nothing was launched
 */
export function runBatch(queue: KernelQueue, linears: readonly PlacedLinear[], call: BatchCall, scratch: BatchScratch): boolean {
  if (call.rows < LEAST_BATCHED || call.rows > MOST_BATCHED) return false;
  const most = Math.min(call.rows, MOST_BATCHED_ROWS);
  const launch = launchOf(queue, linears, call, most);
  if (launch === null || launch.pieceBytes > scratch.expandedBytes) return false;
  const [first] = linears as [PlacedLinear, ...PlacedLinear[]];
  const x = first.permutation === 0n ? call.x : gather(queue, first, call, scratch.gathered);
  for (let row = 0; row < call.rows; row += most) {
    const rows = Math.min(most, call.rows - row);
    multiply(queue, linears, { ...call, x: x + BigInt(row * first.spec.in * 2), rows }, launch, scratch.expanded);
    sumPieces(queue, linears, { ...call, rows, result: rowsOf(call.result, linears, row) }, launch, scratch.expanded);
  }
  return true;
}

/** Places of the results from a row on. */
function rowsOf(result: BatchResult, linears: readonly PlacedLinear[], row: number): BatchResult {
  const of = (y: bigint, linear: number, bytes: number) => y + BigInt(row * linears[linear]!.spec.out * bytes);
  if (result.kind === "outputs") return { kind: "outputs", y: result.y.map((y, i) => of(y, i, 2)) };
  if (result.kind === "gated") return { kind: "gated", y: of(result.y, 0, 2) };
  const { residual, norm } = result;
  return { kind: "residual", residual: of(residual, 0, 4), norm: norm && { ...norm, y: of(norm.y, 0, 2) } };
}

/** What both launches are told of the product. */
function shapeOf(linears: readonly PlacedLinear[], { rows, result }: BatchCall, { slices, units }: BatchLaunch) {
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
    ...shapeOf(linears, call, launch),
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

/** @param rows of one launch */
function launchOf(
  { context }: KernelQueue,
  linears: readonly PlacedLinear[],
  { result }: BatchCall,
  rows: number,
): BatchLaunch | null {
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
  const shape: BatchShape = { bits: format.bits, group, rows, inputs: first.spec.in, outputs, paired: result.kind === "gated" };
  return batchLaunch(shape, context.card);
}

/** x in the order of a linear's weights. */
function gather(queue: KernelQueue, { permutation, spec }: PlacedLinear, { x, rows }: BatchCall, gathered: bigint): bigint {
  const inputs = spec.in;
  queue.run({
    family: "linear_half",
    name: "gather_columns",
    grid: [Math.ceil(inputs / 256), rows],
    block: 256,
    parameters: writeParameters(GATHER, { x, permutation, gathered, k: inputs, ldx: inputs }),
    role: "act-order",
    bytes: rows * inputs * 4,
  });
  return gathered;
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
    ...shapeOf(linears, call, launch),
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
