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
    const { rope, headDim, embedding, hidden, layers, normEps, finalNorm, head } = this.#model;
    const start = this.#length;
    this.#length += ids.length;
    const rotation = rotationOf(rope, headDim, this.#length);
    const rowOf = (id: number): Float64Array => embedding.slice(id * hidden, (id + 1) * hidden);
    let xs = Array.from(ids, rowOf);
    const normed = (weight: Float64Array) => xs.map((x) => rmsNorm(x, weight, normEps));
    layers.forEach((layer, index) => {
      const attended = apply(layer.o, this.#attention(index, normed(layer.inputNorm), start, rotation));
      xs = xs.map((x, i) => add(x, attended[i]!));
      const ys = normed(layer.postAttentionNorm);
      const [gates, ups] = [apply(layer.gate, ys), apply(layer.up, ys)];
      const mlp = apply(
        layer.down,
        ups.map((up, i) => gated(gates[i]!, up)),
      );
      xs = xs.map((x, i) => add(x, mlp[i]!));
    });
    return apply(head, normed(finalNorm));
  }

  /** What the heads make of these tokens, the first of which is the sequence's token `start`. */
  #attention(index: number, xs: readonly Float64Array[], start: number, rotation: Rotation): Float64Array[] {
    const { layers, heads, kvHeads, headDim, normEps } = this.#model;
    const layer = layers[index]!;
    const eachHead = (vector: Float64Array, count: number, norm: Float64Array | null, position: number) => {
      for (let h = 0; h < count; h++) {
        const head = vector.subarray(h * headDim, (h + 1) * headDim);
        if (norm) head.set(rmsNorm(head, norm, normEps));
        rotate(head, position, rotation);
      }
    };
    const [queries, newKeys] = [apply(layer.q, xs), apply(layer.k, xs)];
    for (let i = 0; i < xs.length; i++) {
      eachHead(queries[i]!, heads, layer.qNorm, start + i);
      eachHead(newKeys[i]!, kvHeads, layer.kNorm, start + i);
    }
    this.#keys[index]!.push(...newKeys);
    this.#values[index]!.push(...apply(layer.v, xs));
    return queries.map((query, i) => this.#mix(index, query, start + i));
  }

  /** Each head's mixture of the values that the token at `position` sees. */
  #mix(index: number, queries: Float64Array, position: number): Float64Array {
    const { layers, heads, kvHeads, headDim } = this.#model;
    const { window } = layers[index]!;
    const [keys, values] = [this.#keys[index]!, this.#values[index]!];
    const first = window === null ? 0 : Math.max(0, position - window + 1);
    const mixed = new Float64Array(heads * headDim);
    const weights = new Float64Array(position + 1 - first);
    for (let h = 0; h < heads; h++) {
      const [from, at] = [h * headDim, Math.floor(h / (heads / kvHeads)) * headDim];
      const query = queries.subarray(from, from + headDim);
      for (let i = 0; i < weights.length; i++) weights[i] = dot(query, keys[first + i]!, at) / Math.sqrt(headDim);
      softmax(weights);
      for (let i = 0; i < weights.length; i++) addScaled(mixed, from, weights[i]!, values[first + i]!, at, headDim);
    }
    return mixed;
  }
}

/** Logits after each token of a sequence read at once. */
export function referenceLogits(model: ReferenceModel, ids: ArrayLike<number>): Float64Array[] {
  return new ReferenceSequence(model).feed(ids);
}

/** W x + b for each x. */
function apply({ weight, bias, in: size, out }: DenseLinear, xs: readonly Float64Array[]): Float64Array[] {
  const ys = xs.map(() => new Float64Array(out));
  // Four rows for two tokens: where fewer are left, some are computed twice.
  for (let row = 0; row < out; row += 4) {
    const from = Math.max(0, Math.min(row, out - 4));
    for (let t = 0; t < xs.length; t += 2) {
      const next = Math.min(t + 1, xs.length - 1);
      applyTile(weight, size, from, xs[t]!, ys[t]!, xs[next]!, ys[next]!);
    }
  }
  return bias ? ys.map((y) => add(y, bias)) : ys;
}

/**
 * Rows row … row + 3 for the tokens a and b. Side by side their sums do not wait for each other, and
 * each number that is fetched is used more than once: two to four times as fast as row by row.
 */
function applyTile(
  weight: Float64Array,
  size: number,
  row: number,
  a: Float64Array,
  ya: Float64Array,
  b: Float64Array,
  yb: Float64Array,
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
    const va = a[i]!;
    const vb = b[i]!;
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
  ya[row] = a0;
  ya[row + 1] = a1;
  ya[row + 2] = a2;
  ya[row + 3] = a3;
  yb[row] = b0;
  yb[row + 1] = b1;
  yb[row + 2] = b2;
  yb[row + 3] = b3;
}

/** Σ a[i] · b[offset + i] over the whole of a. */
function dot(a: Float64Array, b: Float64Array, offset: number): number {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += a[i]! * b[offset + i]!;
  return sum;
}

function add(a: Float64Array, b: Float64Array): Float64Array {
  const sum = new Float64Array(a.length);
  for (let i = 0; i < a.length; i++) sum[i] = a[i]! + b[i]!;
  return sum;
}

function rmsNorm(x: Float64Array, weight: Float64Array, eps: number): Float64Array {
  const scale = 1 / Math.sqrt(dot(x, x, 0) / x.length + eps);
  const y = new Float64Array(x.length);
  for (let i = 0; i < x.length; i++) y[i] = x[i]! * scale * weight[i]!;
  return y;
}

/** up · silu(gate) */
function gated(gate: Float64Array, up: Float64Array): Float64Array {
  const y = new Float64Array(up.length);
  for (let i = 0; i < up.length; i++) y[i] = (up[i]! * gate[i]!) / (1 + Math.exp(-gate[i]!));
  return y;
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
