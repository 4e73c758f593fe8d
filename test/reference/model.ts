// A decoder as plain numbers: what the reference computes with. Every weight is the exact
// value that a checkpoint means (after dequantisation), in f64; nothing here knows of files,
// layouts or the product's own description of a model.

import type { ReferenceRope } from "./rope.js";

/** y[out] = Σ weight[out, in] · x[in] + bias[out]. */
export interface DenseLinear {
  readonly in: number;
  readonly out: number;
  /** `[out, in]`, row-major. */
  readonly weight: Float64Array;
  /** `[out]`, or `null`. */
  readonly bias: Float64Array | null;
}

export interface ReferenceLayer {
  /** `[hidden]` */
  readonly inputNorm: Float64Array;
  readonly q: DenseLinear;
  readonly k: DenseLinear;
  readonly v: DenseLinear;
  readonly o: DenseLinear;
  /** `[headDim]` RMS norm of each query head before the rotation, or `null`. */
  readonly qNorm: Float64Array | null;
  readonly kNorm: Float64Array | null;
  /** A query at p sees keys p − window + 1 … p; `null`: all up to p. */
  readonly window: number | null;
  /** `[hidden]` */
  readonly postAttentionNorm: Float64Array;
  readonly gate: DenseLinear;
  readonly up: DenseLinear;
  readonly down: DenseLinear;
}

export interface ReferenceModel {
  readonly vocab: number;
  readonly hidden: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly normEps: number;
  readonly rope: ReferenceRope;
  /** `[vocab, hidden]` */
  readonly embedding: Float64Array;
  readonly layers: readonly ReferenceLayer[];
  /** `[hidden]` */
  readonly finalNorm: Float64Array;
  /** hidden → vocab */
  readonly head: DenseLinear;
}
