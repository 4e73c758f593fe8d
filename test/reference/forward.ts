// The forward pass of a Llama-like decoder, written to be read: one token after the other,
// every sum in f64, no tricks. It is what the backends are measured against where no golden
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
      const gate = apply(layer.gate, y);
      const up = apply(layer.up, y);
      x = add(
        x,
        apply(
          layer.down,
          up.map((u, i) => u * silu(gate[i]!)),
        ),
      );
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
    this.#keys[index]!.push(k);
    this.#values[index]!.push(apply(layer.v, x));

    const first = layer.window === null ? 0 : Math.max(0, position - layer.window + 1);
    const mixed = new Float64Array(heads * headDim);
    for (let h = 0; h < heads; h++) {
      const at = Math.floor(h / (heads / kvHeads)) * headDim;
      const query = q.subarray(h * headDim, (h + 1) * headDim);
      const scores: number[] = [];
      for (let p = first; p <= position; p++) scores.push(dot(query, this.#keys[index]![p]!, at) / Math.sqrt(headDim));
      softmax(scores).forEach((weight, i) => {
        const value = this.#values[index]![first + i]!;
        for (let d = 0; d < headDim; d++) mixed[h * headDim + d]! += weight * value[at + d]!;
      });
    }
    return apply(layer.o, mixed);
  }
}

/** Logits after each token of a sequence read at once. */
export function referenceLogits(model: ReferenceModel, ids: ArrayLike<number>): Float64Array[] {
  return new ReferenceSequence(model).feed(ids);
}

function apply(linear: DenseLinear, x: Float64Array): Float64Array {
  const y = new Float64Array(linear.out);
  for (let row = 0; row < linear.out; row++) {
    y[row] = dot(x, linear.weight, row * linear.in) + (linear.bias?.[row] ?? 0);
  }
  return y;
}

/** Σ a[i] · b[offset + i] over the whole of a. */
function dot(a: Float64Array, b: Float64Array, offset: number): number {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += a[i]! * b[offset + i]!;
  return sum;
}

function add(a: Float64Array, b: Float64Array): Float64Array {
  return a.map((value, i) => value + b[i]!);
}

function rmsNorm(x: Float64Array, weight: Float64Array, eps: number): Float64Array {
  const scale = 1 / Math.sqrt(dot(x, x, 0) / x.length + eps);
  return x.map((value, i) => value * scale * weight[i]!);
}

function silu(x: number): number {
  return x / (1 + Math.exp(-x));
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

function softmax(scores: readonly number[]): number[] {
  const top = Math.max(...scores);
  const weights = scores.map((score) => Math.exp(score - top));
  const sum = weights.reduce((a, b) => a + b, 0);
  return weights.map((weight) => weight / sum);
}
