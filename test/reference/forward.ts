// The forward pass of a Llama-like decoder, written to be read: one layer after the other, every
// sum in f64 and in order, no tricks but one (apply). It is what the backends are measured against
// where no golden file exists; its own test holds it against golden files from Hugging Face
// transformers.

import type { DenseLinear, ReferenceModel } from "./model.js";
import { type Rotation, rotationOf } from "./rope.js";

/** One sequence being read; keys and values of all its tokens are kept. */
export class ReferenceSequence {
  readonly #model: ReferenceModel;
  /** Per layer, per position: `[kvHeads · headDim]`. Keys are kept rotated, as caches do. */
  readonly #keys: Float64Array[][];
  readonly #values: Float64Array[][];
  #length = 0;

  constructor(model: ReferenceModel) {
    this.#model = model;
    this.#keys = model.layers.map(() => []);
    this.#values = model.layers.map(() => []);
  }

  /**
   * Reads more tokens.
   *
   * @returns the logits after each of them
   */
  feed(ids: ArrayLike<number>): Float64Array[] {
    const { rope, headDim, layers, normEps, finalNorm, head, vocab } = this.#model;
    const start = this.#length;
    this.#length += ids.length;
    const rotation = rotationOf(rope, headDim, this.#length);
    const x = this.#embed(ids); // [tokens, hidden]
    layers.forEach((layer, index) => {
      const mixed = this.#attention(index, rmsNorm(x, layer.inputNorm, normEps), start, rotation);
      add(x, apply(layer.o, mixed));
      const y = rmsNorm(x, layer.postAttentionNorm, normEps);
      add(x, apply(layer.down, gated(apply(layer.gate, y), apply(layer.up, y))));
    });
    return rowsOf(apply(head, rmsNorm(x, finalNorm, normEps)), vocab);
  }

  #embed(ids: ArrayLike<number>): Float64Array {
    const { hidden, embedding } = this.#model;
    const x = new Float64Array(ids.length * hidden);
    for (let i = 0; i < ids.length; i++) x.set(embedding.subarray(ids[i]! * hidden, (ids[i]! + 1) * hidden), i * hidden);
    return x;
  }

  /**
   * What the heads make of these tokens, the first of which is the sequence's token `start`.
   *
   * @param x `[tokens, hidden]` @returns `[tokens, heads · headDim]`
   */
  #attention(index: number, x: Float64Array, start: number, rotation: Rotation): Float64Array {
    const { layers, heads, kvHeads, headDim, normEps } = this.#model;
    const { q, k, v, qNorm, kNorm } = layers[index]!;
    const rotated = (linear: DenseLinear, count: number, norm: Float64Array | null) => {
      const y = apply(linear, x);
      const normed = norm ? rmsNorm(y, norm, normEps) : y;
      rowsOf(normed, headDim).forEach((head, i) => {
        rotate(head, start + Math.floor(i / count), rotation);
      });
      return rowsOf(normed, count * headDim);
    };
    const queries = rotated(q, heads, qNorm);
    this.#keys[index]!.push(...rotated(k, kvHeads, kNorm));
    this.#values[index]!.push(...rowsOf(apply(v, x), kvHeads * headDim));
    const mixed = new Float64Array(queries.length * heads * headDim);
    rowsOf(mixed, heads * headDim).forEach((row, i) => {
      this.#mix(index, queries[i]!, start + i, row);
    });
    return mixed;
  }

  /** Each head's mixture of the values that the token at `position` sees, into `mixed`. */
  #mix(index: number, queries: Float64Array, position: number, mixed: Float64Array): void {
    const { layers, heads, kvHeads, headDim } = this.#model;
    const { window } = layers[index]!;
    const [keys, values] = [this.#keys[index]!, this.#values[index]!];
    const first = window === null ? 0 : Math.max(0, position - window + 1);
    const weights = new Float64Array(position + 1 - first);
    for (let h = 0; h < heads; h++) {
      const [from, at] = [h * headDim, Math.floor(h / (heads / kvHeads)) * headDim];
      for (let i = 0; i < weights.length; i++)
        weights[i] = dot(queries, from, keys[first + i]!, at, headDim) / Math.sqrt(headDim);
      softmax(weights);
      for (let i = 0; i < weights.length; i++) addScaled(mixed, from, weights[i]!, values[first + i]!, at, headDim);
    }
  }
}

/** Logits after each token of a sequence read at once. */
export function referenceLogits(model: ReferenceModel, ids: ArrayLike<number>): Float64Array[] {
  return new ReferenceSequence(model).feed(ids);
}

/** The rows of a matrix, not copied. */
function rowsOf(matrix: Float64Array, width: number): Float64Array[] {
  return Array.from({ length: matrix.length / width }, (_, i) => matrix.subarray(i * width, (i + 1) * width));
}

/**
 * y = W x + b for every row of x.
 *
 * @param x `[tokens, in]` @returns `[tokens, out]`
 */
function apply({ weight, bias, in: size, out }: DenseLinear, x: Float64Array): Float64Array {
  const tokens = x.length / size;
  const y = new Float64Array(tokens * out);
  // Four rows for two tokens at a time: where fewer are left, some are computed twice.
  for (let row = 0; row < out; row += 4) {
    const from = Math.max(0, Math.min(row, out - 4));
    for (let token = 0; token < tokens; token += 2)
      applyTile(weight, size, out, from, x, y, token, Math.min(token + 1, tokens - 1));
  }
  if (bias) for (const row of rowsOf(y, out)) add(row, bias);
  return y;
}

/**
 * Rows `row` … `row + 3` for the tokens a and b. Side by side their sums do not wait for each other, and
 * each number that is fetched is used more than once: two to four times as fast as row by row.
 */
function applyTile(
  weight: Float64Array,
  size: number,
  out: number,
  row: number,
  x: Float64Array,
  y: Float64Array,
  a: number,
  b: number,
): void {
  let a0 = 0;
  let a1 = 0;
  let a2 = 0;
  let a3 = 0;
  let b0 = 0;
  let b1 = 0;
  let b2 = 0;
  let b3 = 0;
  for (let i = 0, at = row * size; i < size; i++, at++) {
    const va = x[a * size + i]!;
    const vb = x[b * size + i]!;
    const w0 = weight[at]!;
    const w1 = weight[at + size]!;
    const w2 = weight[at + 2 * size]!;
    const w3 = weight[at + 3 * size]!;
    a0 += va * w0;
    a1 += va * w1;
    a2 += va * w2;
    a3 += va * w3;
    b0 += vb * w0;
    b1 += vb * w1;
    b2 += vb * w2;
    b3 += vb * w3;
  }
  const [ya, yb] = [a * out + row, b * out + row];
  y[ya] = a0;
  y[ya + 1] = a1;
  y[ya + 2] = a2;
  y[ya + 3] = a3;
  y[yb] = b0;
  y[yb + 1] = b1;
  y[yb + 2] = b2;
  y[yb + 3] = b3;
}

/** Σ a[i] · b[j] over `count` numbers from i and from j on */
function dot(a: Float64Array, i: number, b: Float64Array, j: number, count: number): number {
  let sum = 0;
  for (let at = 0; at < count; at++) sum += a[i + at]! * b[j + at]!;
  return sum;
}

/** to += values */
function add(to: Float64Array, values: Float64Array): void {
  for (let i = 0; i < to.length; i++) to[i]! += values[i]!;
}

/** Each row of x, as long as `weight`, over its root mean square. */
function rmsNorm(x: Float64Array, weight: Float64Array, eps: number): Float64Array {
  const size = weight.length;
  const y = new Float64Array(x.length);
  for (let row = 0; row < x.length; row += size) {
    const scale = 1 / Math.sqrt(dot(x, row, x, row, size) / size + eps);
    for (let i = 0; i < size; i++) y[row + i] = x[row + i]! * scale * weight[i]!;
  }
  return y;
}

/** up · silu(gate) */
function gated(gate: Float64Array, up: Float64Array): Float64Array {
  return up.map((value, i) => (value * gate[i]!) / (1 + Math.exp(-gate[i]!)));
}
/** Rotates pairs (x[i], x[i + half]) by position · frequency, in place. */
function rotate(head: Float64Array, position: number, { frequencies, amplitude }: Rotation): void {
  const half = frequencies.length;
  for (let i = 0; i < half; i++) {
    const cos = Math.cos(position * frequencies[i]!) * amplitude;
    const sin = Math.sin(position * frequencies[i]!) * amplitude;
    const [a, b] = [head[i]!, head[i + half]!];
    head[i] = a * cos - b * sin;
    head[i + half] = b * cos + a * sin;
  }
}

/** In place. */
function softmax(scores: Float64Array): void {
  let [top, sum] = [Number.NEGATIVE_INFINITY, 0];
  for (const score of scores) top = Math.max(top, score);
  for (let i = 0; i < scores.length; i++) sum += scores[i] = Math.exp(scores[i]! - top);
  for (let i = 0; i < scores.length; i++) scores[i]! /= sum;
}

/** to[at …] += weight · values[from …], `count` of them */
function addScaled(to: Float64Array, at: number, weight: number, values: Float64Array, from: number, count: number): void {
  for (let i = 0; i < count; i++) to[at + i]! += weight * values[from + i]!;
}
