// The float kernels and the team's meeting points as TypeScript sees them: exports of the
// WebAssembly module, one instance per thread and arena. Pointers are byte offsets into the
// arena; wasm/float-*.ts, wasm/dequantize.ts and wasm/team.ts say what each one does.

import type { QuantizedKernels } from "./quantized-kernels.js";

export interface FloatKernels {
  team_arrive(control: number, threads: number): number;
  team_open(control: number, ticket: number): number;
  team_wait(control: number, ticket: number, turns: number): void;
  team_claim(control: number, count: number): number;
  team_take(control: number, threads: number, thread: number, items: number, most: number, least: number): number;
  team_await(control: number, last: number, turns: number): number;
  touch_lines(from: number, bytes: number): void;

  f32_linear(
    w: number,
    bias: number,
    x: number,
    m: number,
    size: number,
    y: number,
    ldy: number,
    rowFrom: number,
    rowTo: number,
  ): void;

  rms_norm(x: number, delta: number, weight: number, y: number, size: number, eps: number, from: number, to: number): void;
  norm_factor(x: number, delta: number, size: number, eps: number): number;
  norm_columns(x: number, delta: number, weight: number, y: number, factor: number, from: number, to: number): void;
  add_columns(x: number, delta: number, from: number, to: number): void;
  silu_mul(gate: number, up: number, size: number, rows: number, from: number, to: number): void;
  widen_row(from: number, to: number, size: number, kind: number): void;
  first_non_finite(at: number, count: number, kind: number): number;
  dequantize_columns(
    slab: number,
    bits: number,
    offset: number,
    out: number,
    inputs: number,
    firstRow: number,
    rows: number,
    scales: number,
    dtype: number,
    zeros: number,
    gIdx: number,
    groupSize: number,
    to: number,
    from: number,
    until: number,
  ): void;
  log_softmax_sums(x: number, size: number, out: number): void;

  rope_heads(x: number, heads: number, headDim: number, cos: number, sin: number, norm: number, eps: number, scale: number): void;
  store_key_value(key: number, value: number, keys: number, values: number, headDim: number, slot: number, half: number): void;
  rotate_heads(x: number, heads: number, headDim: number): void;
  store_codes_8(key: number, value: number, keys: number, values: number, headDim: number, slot: number): void;
  store_codes_4(key: number, value: number, keys: number, values: number, headDim: number, slot: number, room: number): void;
  widen_keys_8(keys: number, headDim: number, token: number, count: number, to: number): void;
  widen_values_8(values: number, headDim: number, token: number, count: number, to: number): void;
  widen_keys_4(keys: number, headDim: number, token: number, count: number, to: number): void;
  widen_values_4(values: number, headDim: number, token: number, count: number, to: number): void;
  attend_page(
    q: number,
    tokenStride: number,
    tokens: number,
    group: number,
    headDim: number,
    relative: number,
    window: number,
    keys: number,
    values: number,
    kind: number,
    scratch: number,
    partials: number,
  ): void;
  clear_partials(into: number, rows: number, headDim: number): void;
  merge_partials(into: number, partials: number, rows: number, headDim: number): void;
  finish_attention(from: number, out: number, tokenStride: number, tokens: number, group: number, headDim: number): void;
}

/** How widen_row and first_non_finite name dtypes. */
export const ValueKind = { f32: 0, f16: 1, bf16: 2 } as const;

/** wasm/adapter-rows.ts */
export interface AdapterKernels {
  adapter_shrink(a: number, x: number, size: number, ranks: number, weight: number, t: number, half: number): void;
  adapter_expand(
    b: number,
    total: number,
    ranks: number,
    t: number,
    y: number,
    out: number,
    tileFrom: number,
    tileTo: number,
    half: number,
  ): void;
}

/** All kernels, one instance's exports. */
export type Kernels = FloatKernels & QuantizedKernels & AdapterKernels;

/** What loadKernelModules() of wasm-module.ts chooses. */
export interface KernelModules {
  /** All kernels. */
  readonly kernels: WebAssembly.Module;
  /** Faster ones for some of them, `null` where there are none. */
  readonly products: WebAssembly.Module | null;
}

/** One instance of the kernels over one arena. */
export function instantiate({ kernels, products }: KernelModules, memory: WebAssembly.Memory): Kernels {
  const exports = (module: WebAssembly.Module) => new WebAssembly.Instance(module, { env: { memory } }).exports;
  return { ...exports(kernels), ...(products && exports(products)) } as unknown as Kernels;
}
