// A packed linear, ready to run: which kernel, with which numbers. Every worker makes its own
// from the same plain facts, over its own instance of the kernels.

import type { LinearSpec } from "../../model/spec.js";
import type { QuantizedKernels } from "./quantized-kernels.js";
import {
  activationRecordBytes,
  type QuantizedLayout,
  quantizedLayout,
  SLOT_AREA_BYTES,
  withoutZeros,
} from "./quantized-layout.js";

/** Byte offsets in the memory. */
export interface QuantizedPlace {
  readonly weights: number;
  /** 0: none reserved. */
  readonly permutation: number;
  /** 0: none. */
  readonly bias: number;
}

/** What only the contents of a checkpoint show; found by LinearPacker, plain data. */
export interface PackedFacts {
  readonly form: "records" | "segments";
  /** All zeros are 8 and none is stored. */
  readonly symmetric: boolean;
  /** Entries of the segment table. */
  readonly segments: number;
  /** Segmented form: bytes of one token's activations. */
  readonly tokenBytes: number;
  /** Whether inputs are stored in another order than they come. */
  readonly permuted: boolean;
  /** Digest of the order and the segments; empty where there is neither. */
  readonly digest: string;
}

/** y[out] = W[out, in] · x[in] + bias, activations rounded to integers per block. */
export class QuantizedLinear {
  readonly spec: LinearSpec;
  readonly layout: QuantizedLayout;
  /** ceil(out / 16): what apply() is divided into. */
  readonly tiles: number;
  readonly out: number;
  readonly weights: number;
  readonly tileBytes: number;
  /** Linears with equal keys that read the same x can share what one of them quantised. */
  readonly inputKey: string;
  readonly inputUnit: number | null;
  readonly #kernels: QuantizedKernels;
  readonly #place: QuantizedPlace;
  readonly #facts: PackedFacts;
  readonly #permutation: number;
  readonly #run: (activations: number, m: number, y: number, ldy: number, from: number, to: number, add: number) => void;

  constructor(
    kernels: QuantizedKernels,
    _memory: WebAssembly.Memory,
    spec: LinearSpec,
    place: QuantizedPlace,
    facts: PackedFacts,
  ) {
    const layout = facts.symmetric ? withoutZeros(quantizedLayout(spec)) : quantizedLayout(spec);
    this.spec = spec;
    this.layout = layout;
    this.tiles = layout.tiles;
    this.out = spec.out;
    this.weights = place.weights;
    this.tileBytes = layout.tileBytes;
    this.#kernels = kernels;
    this.#place = place;
    this.#facts = facts;
    this.#permutation = facts.permuted ? place.permutation : 0;
    // Segments and permutations mix inputs from everywhere.
    this.inputUnit = facts.form === "records" && !facts.permuted ? layout.blockSize : null;
    this.inputKey = `${facts.form} ${spec.in} ${layout.blockSize} ${layout.activationLimit} ${facts.digest}`;
    this.#run = facts.form === "records" ? this.#records() : this.#segments();
  }

  /** Bytes of the quantised activations of `m` tokens. */
  inputBytes(m: number): number {
    const token =
      this.#facts.form === "records" ? this.layout.blocks * activationRecordBytes(this.layout) : this.#facts.tokenBytes;
    return SLOT_AREA_BYTES + m * token;
  }

  /**
   * Quantises rows rowFrom … rowTo − 1 of x f32 [m, in] into `activations`. All rows must be done,
   * and nobody may be computing from `activations`, before apply() begins.
   */
  quantize(x: number, m: number, activations: number, rowFrom: number, rowTo: number): void {
    const { blockSize, activationLimit: limit, segmentTable } = this.layout;
    if (rowFrom === 0) this.#kernels.quantized_reset_slots(activations);
    if (this.#facts.form === "records")
      this.#kernels.quantize_records(x, m, this.spec.in, this.#permutation, blockSize, limit, activations, rowFrom, rowTo);
    else
      this.#kernels.quantize_segments(
        x,
        this.spec.in,
        this.#permutation,
        this.#place.weights + segmentTable,
        this.#facts.segments,
        this.#facts.tokenBytes,
        limit,
        activations,
        rowFrom,
        rowTo,
      );
  }

  /** One row's inputs from … to − 1: whole blocks, or up to the last input. On the same conditions as quantize(). */
  quantizeInputs(x: number, m: number, activations: number, row: number, from: number, to: number): void {
    const { blockSize, activationLimit: limit } = this.layout;
    if (row === 0 && from === 0) this.#kernels.quantized_reset_slots(activations);
    const record = activationRecordBytes(this.layout);
    const records = activations + ((from / blockSize) * m + row) * record;
    this.#kernels.quantize_records(x + (row * this.spec.in + from) * 4, m, to - from, 0, blockSize, limit, records, 0, 1);
  }

  /**
   * Outputs of tiles tileFrom … tileTo − 1 into y f32 [m, ldy]; other columns are not touched.
   *
   * @param add y += instead of y =
   */
  apply(activations: number, m: number, y: number, ldy: number, tileFrom: number, tileTo: number, add: boolean = false): void {
    this.#run(activations, m, y, ldy, tileFrom, tileTo, add ? 1 : 0);
  }

  /**
   * One weight row as f32 [in] at `to`: embeddings that share the head's weights.
   *
   * @throws {RangeError} for a linear that is not plain weights
   */
  gatherRow(row: number, to: number): void {
    if (this.spec.format.kind !== "plain") throw new RangeError(`${this.spec.name} holds no embeddings`);
    const { tileBytes, blocks, blockSize } = this.layout;
    this.#kernels.gather_row_bytes(this.#place.weights, tileBytes, blocks, blockSize, row, this.spec.in, to);
  }

  #records() {
    const { weights, bias } = this.#place;
    const { tileBytes, blocks, blockSize, codes, scaleType } = this.layout;
    const out = this.out;
    if (codes === "bytes") {
      const kernel = this.#kernels.linear_bytes;
      return (a: number, m: number, y: number, ldy: number, from: number, to: number, add: number) =>
        kernel(weights, tileBytes, blocks, blockSize, a, m, bias, y, ldy, out, from, to, add);
    }
    const kernel = this.#facts.symmetric
      ? this.#kernels.linear_symmetric_f16
      : scaleType === "f16"
        ? this.#kernels.linear_nibbles_f16
        : this.#kernels.linear_nibbles_f32;
    return (a: number, m: number, y: number, ldy: number, from: number, to: number, add: number) =>
      kernel(weights, tileBytes, blocks, blockSize, a, m, bias, y, ldy, out, from, to, add);
  }

  #segments() {
    const { weights, bias } = this.#place;
    const { tileBytes, codes, scaleType, segmentTable } = this.layout;
    const { segments, tokenBytes } = this.#facts;
    const out = this.out;
    const area = codeArea(this.layout);
    const table = weights + segmentTable;
    if (codes === "bytes") {
      const kernel = this.#kernels.linear_segments_bytes;
      return (a: number, m: number, y: number, ldy: number, from: number, to: number, add: number) =>
        kernel(weights, tileBytes, area, table, segments, tokenBytes, a, m, bias, y, ldy, out, from, to, add);
    }
    const kernel = scaleType === "f16" ? this.#kernels.linear_segments_nibbles_f16 : this.#kernels.linear_segments_nibbles_f32;
    return (a: number, m: number, y: number, ldy: number, from: number, to: number, add: number) =>
      kernel(weights, tileBytes, area, table, segments, tokenBytes, a, m, bias, y, ldy, out, from, to, add);
  }
}

/** Bytes of a tile's codes in the segmented form. */
export function codeArea(layout: QuantizedLayout): number {
  return layout.paddedIn * (layout.codes === "nibbles" ? 8 : 16);
}
