// What the loaded adapters add to linears that read the same x: two launches, whatever adapters
// the rows of the step use (lora.cu).

import type { KernelQueue } from "../launch/kernel-queue.js";
import { writeParameters } from "../launch/parameter-layout.js";
import type { PlacedLinear } from "../steps/stage.js";
import { OCTET } from "../weights/adapter-layout.js";
import { LORA_EXPAND, LORA_SHRINK } from "./lora-layouts.js";

/** Up to so many rows each have a block per octet; more are taken four to a warp. */
const MOST_SINGLE_ROWS = 16;
const BLOCK_ROWS = 32;
const EXPAND_ROWS = 8;
const EXPAND_COLUMNS = 512;

/** What a step says about adapters, on the card. */
export interface AdapterInputs {
  /** f32 [rows, ranks] scratch */
  readonly t: bigint;
  /** f32 [entries, adapters] */
  readonly weights: bigint;
  /** i32 [rows]: entry of each row */
  readonly sequence: bigint;
  /** Loaded ones. */
  readonly adapters: number;
}

export interface AdapterCall {
  /** f16 [rows, in] */
  readonly x: bigint;
  /** [rows, out] of each linear, f16 or f32 */
  readonly y: readonly bigint[];
  readonly rows: number;
  readonly f32: boolean;
}

/** Adds Σ weight · B (A x) to what up to three linears have made of x; without adapters on them, nothing is launched. */
export function runAdapters(
  queue: KernelQueue,
  linears: readonly PlacedLinear[],
  { x, y, rows, f32 }: AdapterCall,
  inputs: AdapterInputs,
): void {
  const ranks = (i: number) => linears[i]?.adapters?.ranks ?? 0;
  const total = ranks(0) + ranks(1) + ranks(2);
  if (total === 0) return;
  const all = { ranks0: ranks(0), ranks1: ranks(1), ranks2: ranks(2) };
  const at = (i: number) => linears[i]?.adapters ?? NOWHERE;
  const single = rows <= MOST_SINGLE_ROWS;
  queue.run({
    family: "lora",
    name: single ? "lora_shrink_row" : "lora_shrink_rows",
    grid: [total / OCTET, single ? rows : Math.ceil(rows / BLOCK_ROWS)],
    block: 256,
    parameters: writeParameters(LORA_SHRINK, {
      x,
      a0: at(0).a,
      a1: at(1).a,
      a2: at(2).a,
      owner0: at(0).owners,
      owner1: at(1).owners,
      owner2: at(2).owners,
      weights: inputs.weights,
      sequence: inputs.sequence,
      t: inputs.t,
      ...all,
      m: rows,
      k: linears[0]!.spec.in,
      adapters: inputs.adapters,
    }),
  });
  // A linear without adapters has no columns here.
  const outputs = (i: number) => (ranks(i) > 0 ? linears[i]!.spec.out : 0);
  const blocks = [0, 1, 2].reduce((sum, i) => sum + Math.ceil(outputs(i) / EXPAND_COLUMNS), 0);
  queue.run({
    family: "lora",
    name: "lora_expand",
    grid: [blocks, Math.ceil(rows / EXPAND_ROWS)],
    block: 256,
    parameters: writeParameters(LORA_EXPAND, {
      t: inputs.t,
      b0: at(0).b,
      b1: at(1).b,
      b2: at(2).b,
      y0: y[0] ?? 0n,
      y1: y[1] ?? 0n,
      y2: y[2] ?? 0n,
      ...all,
      n0: outputs(0),
      n1: outputs(1),
      n2: outputs(2),
      m: rows,
      yIsF32: f32 ? 1 : 0,
    }),
  });
}

const NOWHERE = { a: 0n, b: 0n, owners: 0n };
