// The quantised kernels as TypeScript sees them: exports of the WebAssembly module, one
// instance per thread and memory. Pointers are byte offsets; wasm/quantized-*.ts and
// wasm/pack-*.ts say what each one does.

export interface QuantizedKernels {
  quantized_reset_slots(buffer: number): void;
  quantize_records(
    x: number,
    m: number,
    inputs: number,
    permutation: number,
    blockSize: number,
    limit: number,
    buffer: number,
    rowFrom: number,
    rowTo: number,
  ): void;
  quantize_segments(
    x: number,
    inputs: number,
    permutation: number,
    table: number,
    segments: number,
    tokenBytes: number,
    limit: number,
    buffer: number,
    rowFrom: number,
    rowTo: number,
  ): void;

  linear_nibbles_f16: RecordKernel;
  linear_nibbles_f32: RecordKernel;
  linear_symmetric_f16: RecordKernel;
  linear_bytes(
    weights: number,
    tileBytes: number,
    blocks: number,
    blockSize: number,
    buffer: number,
    m: number,
    bias: number,
    y: number,
    ldy: number,
    out: number,
    tileFrom: number,
    tileTo: number,
    add: number,
  ): void;
  linear_segments_nibbles_f16: SegmentKernel;
  linear_segments_nibbles_f32: SegmentKernel;
  linear_segments_bytes(
    weights: number,
    tileBytes: number,
    codeArea: number,
    table: number,
    segments: number,
    tokenBytes: number,
    buffer: number,
    m: number,
    bias: number,
    y: number,
    ldy: number,
    out: number,
    tileFrom: number,
    tileTo: number,
    add: number,
  ): void;
  gather_row_bytes(
    weights: number,
    tileBytes: number,
    blocks: number,
    blockSize: number,
    row: number,
    inputs: number,
    to: number,
  ): void;

  pack_nibble_words: WordPacker;
  pack_byte_words: WordPacker;
  pack_codes(
    slab: number,
    bits: number,
    firstRow: number,
    rows: number,
    out: number,
    inverse: number,
    bytes: number,
    codes: number,
    tileBytes: number,
    blockShift: number,
    recordBytes: number,
    tileFrom: number,
    tileTo: number,
  ): void;
  pack_plain(
    slab: number,
    dtype: number,
    firstRow: number,
    inputs: number,
    out: number,
    weights: number,
    tileBytes: number,
    blocks: number,
    blockSize: number,
    tileFrom: number,
    tileTo: number,
  ): number;
  pack_scales(
    slab: number,
    dtype: number,
    out: number,
    groupFrom: number,
    groupTo: number,
    places: number,
    to: number,
    tileBytes: number,
    placeBytes: number,
    half: number,
    tileFrom: number,
    tileTo: number,
  ): number;
  pack_zeros(
    slab: number,
    bits: number,
    offset: number,
    out: number,
    groupFrom: number,
    groupTo: number,
    places: number,
    to: number,
    tileBytes: number,
    placeBytes: number,
    tileFrom: number,
    tileTo: number,
  ): void;
  pack_bias(from: number, dtype: number, out: number, to: number, tileFrom: number, tileTo: number): number;

  memory_read(from: number, bytes: number): bigint;
}

/** What wasm/products.ts exports. */
export type ProductKernels = Pick<
  QuantizedKernels,
  "linear_nibbles_f16" | "linear_nibbles_f32" | "linear_symmetric_f16" | "linear_bytes"
>;

type RecordKernel = (
  weights: number,
  tileBytes: number,
  blocks: number,
  blockSize: number,
  buffer: number,
  m: number,
  bias: number,
  y: number,
  ldy: number,
  out: number,
  tileFrom: number,
  tileTo: number,
  add: number,
) => void;

type SegmentKernel = (
  weights: number,
  tileBytes: number,
  codeArea: number,
  table: number,
  segments: number,
  tokenBytes: number,
  buffer: number,
  m: number,
  bias: number,
  y: number,
  ldy: number,
  out: number,
  tileFrom: number,
  tileTo: number,
  add: number,
) => void;

type WordPacker = (
  slab: number,
  firstRow: number,
  rows: number,
  out: number,
  codes: number,
  tileBytes: number,
  blockShift: number,
  recordBytes: number,
  tileFrom: number,
  tileTo: number,
) => void;

/** How the packing kernels name dtypes. */
export const PACK_DTYPE = { F16: 0, BF16: 1, F32: 2 } as const;
