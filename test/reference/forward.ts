// The forward pass of a Llama-like decoder, written to be read: one token after the other,
// every sum in f64, no tricks but one (apply). It is what the backends are measured against where no golden
// file exists; its own test holds it against golden files from Hugging Face transformers.

import type { DenseLinear, ReferenceLayer, ReferenceModel } from "./model.js";
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
    const length = this.#length + ids.length;
    const rotation = rotationOf(this.#model.rope, this.#model.headDim, length);
    return Array.from({ length: ids.length }, (_, i) => this.#token(ids[i]!, rotation));
  }

  #token(id: number, rotation: Rotation): Float64Array {
    const model = this.#model;
    const position = this.#length++;
    let x: Float64Array = model.embedding.slice(id * model.hidden, (id + 1) * model.hidden);
    model.layers.forEach((layer, index) => {
      x = add(x, this.#attention(index, layer, rmsNorm(x, layer.inputNorm, model.normEps), position, rotation));
      const y = rmsNorm(x, layer.postAttentionNorm, model.normEps);
      x = add(x, apply(layer.down, gated(apply(layer.gate, y), apply(layer.up, y))));
    });
    return apply(model.head, rmsNorm(x, model.finalNorm, model.normEps));
  }

  #attention(index: number, layer: ReferenceLayer, x: Float64Array, position: number, rotation: Rotation): Float64Array {
    const model = this.#model;
    const { heads, kvHeads, headDim, normEps } = model;
    const q = apply(layer.q, x);
    const k = apply(layer.k, x);
    const eachHead = (vector: Float64Array, count: number, norm: Float64Array | null) => {
      for (let h = 0; h < count; h++) {
        const head = vector.subarray(h * headDim, (h + 1) * headDim);
        if (norm) head.set(rmsNorm(head, norm, normEps));
        rotate(head, position, rotation);
      }
    };
    eachHead(q, heads, layer.qNorm);
    eachHead(k, kvHeads, layer.kNorm);
    const [keys, values] = [this.#keys[index]!, this.#values[index]!];
    keys.push(k);
    values.push(apply(layer.v, x));

    const first = layer.window === null ? 0 : Math.max(0, position - layer.window + 1);
    const mixed = new Float64Array(heads * headDim);
    for (let h = 0; h < heads; h++) {
      const at = Math.floor(h / (heads / kvHeads)) * headDim;
      const query = q.subarray(h * headDim, (h + 1) * headDim);
      const scores = new Float64Array(position + 1 - first);
      for (let i = 0; i < scores.length; i++) scores[i] = dot(query, keys[first + i]!, at) / Math.sqrt(headDim);
      const weights = softmax(scores);
      for (let i = 0; i < weights.length; i++)
        addScaled(mixed, h * headDim, weights[i]!, values[first + i]!.subarray(at, at + headDim));
    }
    return apply(layer.o, mixed);
  }
}

/** Logits after each token of a sequence read at once. */
export function referenceLogits(model: ReferenceModel, ids: ArrayLike<number>): Float64Array[] {
  return new ReferenceSequence(model).feed(ids);
}

function apply({ weight, bias, in: size, out }: DenseLinear, x: Float64Array): Float64Array {
  const y = new Float64Array(out);
  // Four rows side by side: their sums do not wait for each other, which is twice as fast.
  const fours = out - (out % 4);
  for (let row = 0; row < fours; row += 4) {
    let [s0, s1, s2, s3] = [0, 0, 0, 0];
    for (let i = 0, at = row * size; i < size; i++, at++) {
      const value = x[i]!;
      s0 += value * weight[at]!;
      s1 += value * weight[at + size]!;
      s2 += value * weight[at + 2 * size]!;
      s3 += value * weight[at + 3 * size]!;
    }
    y[row] = s0;
    y[row + 1] = s1;
    y[row + 2] = s2;
    y[row + 3] = s3;
  }
  for (let row = fours; row < out; row++) y[row] = dot(x, weight, row * size);
  return bias ? add(y, bias) : y;
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

function softmax(scores: Float64Array): Float64Array {
  const top = scores.reduce((a, b) => Math.max(a, b));
  const weights = scores.map((score) => Math.exp(score - top));
  const sum = weights.reduce((a, b) => a + b, 0);
  return weights.map((weight) => weight / sum);
}

/** to[at …] += weight · values */
function addScaled(to: Float64Array, at: number, weight: number, values: Float64Array): void {
  for (let i = 0; i < values.length; i++) to[at + i]! += weight * values[i]!;
}
