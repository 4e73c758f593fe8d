// Made-up linears in checkpoint form, and the plain arithmetic that the quantised kernels must
// reproduce bit for bit. Written from the formats' definitions, not from the kernels.

import type { Dtype, TensorInfo } from "../../src/checkpoint/checkpoint.js";
import type { GptqFormat, LinearSpec } from "../../src/model/spec.js";

/** A seeded stream of numbers in [0, 1). */
export function randomNumbers(seed: number): () => number {
  let state = (seed * 2654435761 + 12345) >>> 0;
  return () => {
    state ^= state << 13;
    state >>>= 0;
    state ^= state >>> 17;
    state ^= state << 5;
    state >>>= 0;
    return state / 2 ** 32;
  };
}

/** Tensors as a checkpoint would hold them. */
export class TensorStore {
  readonly tensors = new Map<string, TensorInfo>();
  readonly #contents = new Map<string, Uint8Array>();

  add(name: string, dtype: Dtype, shape: number[], data: ArrayBufferView): void {
    const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
    this.#contents.set(name, bytes);
    this.tensors.set(name, { name, dtype, shape, file: "made-up", start: 0, bytes: bytes.length });
  }

  /** Changes a tensor that is there. */
  change(name: string, change: (bytes: Uint8Array) => void): void {
    change(this.#contents.get(name)!);
  }

  read(tensor: TensorInfo, offset: number, into: Uint8Array): void {
    const bytes = this.#contents.get(tensor.name)!;
    if (offset + into.length > bytes.length) throw new RangeError(`reading past ${tensor.name}`);
    into.set(bytes.subarray(offset, offset + into.length));
  }
}

/** f32 value of f16 bits. */
export function fromHalf(bits: number): number {
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  const sign = bits & 0x8000 ? -1 : 1;
  if (exponent === 31) return fraction ? Number.NaN : sign * Number.POSITIVE_INFINITY;
  return sign * (exponent ? (1 + fraction / 1024) * 2 ** (exponent - 15) : fraction * 2 ** -24);
}

/** Random bits of a finite value of this dtype around `magnitude`, and the value. */
function element(random: () => number, dtype: "f16" | "bf16" | "f32", magnitude: number): { bits: number; value: number } {
  const raw = Math.fround((random() + 0.05) * magnitude);
  const word = new Uint32Array(Float32Array.of(raw).buffer)[0]!;
  if (dtype === "f32") return { bits: word, value: raw };
  if (dtype === "bf16") return { bits: word >>> 16, value: new Float32Array(Uint32Array.of(word & 0xffff0000).buffer)[0]! };
  // Truncated to f16, subnormals included.
  const exponent = Math.max(-14, Math.floor(Math.log2(raw)));
  const fraction = Math.floor(raw / 2 ** (exponent - 10));
  const bits = exponent === -14 && fraction < 1024 ? fraction : ((exponent + 15) << 10) | (fraction - 1024);
  return { bits, value: fromHalf(bits) };
}

const STORED: Record<"f16" | "bf16" | "f32", Dtype> = { f16: "F16", bf16: "BF16", f32: "F32" };

function storeElements(store: TensorStore, name: string, dtype: "f16" | "bf16" | "f32", shape: number[], bits: number[]): void {
  store.add(name, STORED[dtype], shape, dtype === "f32" ? Uint32Array.from(bits) : Uint16Array.from(bits));
}

/** Values of `bits` bits one after another, lowest bits first, in words. */
function packBits(values: number[], bits: number): Uint32Array {
  const words = new Uint32Array(Math.ceil((values.length * bits) / 32));
  values.forEach((value, i) => {
    for (let b = 0; b < bits; b++) if ((value >> b) & 1) words[(i * bits + b) >> 5]! |= 1 << ((i * bits + b) & 31);
  });
  return words;
}

/** What the made-up checkpoint means. */
export interface Meaning {
  /** Weight code of input k, output n; a weight is (code − zero) · scale. */
  code(k: number, n: number): number;
  zero(group: number, n: number): number;
  scale(group: number, n: number): number;
  /** Group of input k. */
  group(k: number): number;
  readonly groups: number;
  readonly bias: Float32Array | null;
}

/** A random GPTQ linear written to `store`. */
export function makeGptq(
  spec: LinearSpec,
  store: TensorStore,
  random: () => number,
  gIdx: Int32Array | null,
  symmetric = false,
): Meaning {
  const format = spec.format as GptqFormat;
  const { in: inputs, out, name } = spec;
  const { bits } = format;
  const groups = Math.ceil(inputs / Math.min(format.groupSize, inputs));
  const codes = Uint8Array.from({ length: inputs * out }, () => Math.floor(random() * 2 ** bits));
  const middle = 2 ** (bits - 1) - (format.zeros === "v1" ? 1 : 0);
  const stored = Array.from({ length: groups * out }, () => (symmetric ? middle : Math.floor(random() * 2 ** bits)));
  const scales = Array.from({ length: groups * out }, () => element(random, format.scaleDtype, random() < 0.05 ? 1e-6 : 0.02));

  const rows = Math.ceil((inputs * bits) / 32);
  const qweight = new Uint32Array(rows * out);
  for (let n = 0; n < out; n++) {
    const column = packBits(
      Array.from({ length: inputs }, (_, k) => codes[k * out + n]!),
      bits,
    );
    column.forEach((word, row) => {
      qweight[row * out + n] = word;
    });
  }
  store.add(`${name}.qweight`, "I32", [rows, out], qweight);
  const words = Math.ceil((out * bits) / 32);
  const qzeros = new Uint32Array(groups * words);
  for (let g = 0; g < groups; g++) qzeros.set(packBits(stored.slice(g * out, (g + 1) * out), bits), g * words);
  store.add(`${name}.qzeros`, "I32", [groups, words], qzeros);
  storeElements(
    store,
    `${name}.scales`,
    format.scaleDtype,
    [groups, out],
    scales.map((scale) => scale.bits),
  );
  if (format.gIdx) store.add(`${name}.g_idx`, "I32", [inputs], gIdx!);
  return {
    code: (k, n) => codes[k * out + n]!,
    zero: (g, n) => (stored[g * out + n]! + (format.zeros === "v1" ? 1 : 0)) % 2 ** bits,
    scale: (g, n) => scales[g * out + n]!.value,
    group: (k) => (format.gIdx ? gIdx![k]! : Math.floor(k / format.groupSize)),
    groups,
    bias: makeBias(spec, store, random),
  };
}

/** A random plain linear written to `store`; codes are the 8-bit ones it is rounded to. */
export function makePlain(
  spec: LinearSpec,
  store: TensorStore,
  random: () => number,
  blockSize: number,
): Meaning & { weight(k: number, n: number): number } {
  const { in: inputs, out, name, format } = spec;
  if (format.kind !== "plain") throw new TypeError("a plain linear");
  const elements = Array.from({ length: inputs * out }, () => {
    const { bits, value } = element(random, format.dtype, 0.1);
    if (random() < 0.5) return { bits, value };
    return { bits: (bits | (format.dtype === "f32" ? 0x80000000 : 0x8000)) >>> 0, value: -value };
  });
  storeElements(
    store,
    `${name}.weight`,
    format.dtype,
    [out, inputs],
    elements.map(({ bits }) => bits),
  );
  const blocks = Math.ceil(inputs / blockSize);
  const weight = (k: number, n: number) => elements[n * inputs + k]!.value;
  const most = (g: number, n: number) => {
    let max = 0;
    for (let k = g * blockSize; k < Math.min(inputs, (g + 1) * blockSize); k++) max = Math.max(max, Math.abs(weight(k, n)));
    return max;
  };
  const group = (k: number) => Math.floor(k / blockSize);
  return {
    weight,
    code: (k, n) => nearest(weight(k, n), Math.fround(127 / most(group(k), n))) + 128,
    zero: () => 128,
    scale: (g, n) => Math.fround(most(g, n) / 127),
    group,
    groups: blocks,
    bias: makeBias(spec, store, random),
  };
}

function makeBias(spec: LinearSpec, store: TensorStore, random: () => number): Float32Array | null {
  if (!spec.bias) return null;
  const elements = Array.from({ length: spec.out }, () => element(random, "f16", 1));
  storeElements(
    store,
    `${spec.name}.bias`,
    "f16",
    [spec.out],
    elements.map(({ bits }) => bits),
  );
  return Float32Array.from(elements, ({ value }) => value);
}

/** value · factor to the nearest integer, ties to even, in f32. */
function nearest(value: number, factor: number): number {
  return Math.fround(Math.fround(value * factor) + 12582912) - 12582912;
}

/** Inputs that share one activation scale: where they begin and end in the stored order. */
export type Cut = readonly [start: number, end: number];

/** How the stored order is cut: blocks, where every group begins at one, else groups in pieces of 128. */
export function cutInputs(order: readonly number[], meaning: Meaning, blockSize: number, segmentsOnly: boolean): Cut[] {
  const starts = order.flatMap((k, i) => (i === 0 || meaning.group(order[i - 1]!) !== meaning.group(k) ? [i] : []));
  if (!segmentsOnly && starts.every((start) => start % blockSize === 0))
    return Array.from({ length: Math.ceil(order.length / blockSize) }, (_, b) => [
      b * blockSize,
      Math.min(order.length, (b + 1) * blockSize),
    ]);
  return starts.flatMap((start, i) => {
    const end = starts[i + 1] ?? order.length;
    return Array.from(
      { length: Math.ceil((end - start) / 128) },
      (_, j): Cut => [start + j * 128, Math.min(end, start + (j + 1) * 128)],
    );
  });
}

/** Inputs sorted by group, stable. */
export function storedOrder(inputs: number, meaning: Meaning): number[] {
  return Array.from({ length: inputs }, (_, k) => k).sort((a, b) => meaning.group(a) - meaning.group(b) || a - b);
}

/** y [m, out] as the kernels must compute it, every f32 rounding in its place. */
export function referenceLinear(
  x: Float32Array,
  m: number,
  spec: LinearSpec,
  meaning: Meaning,
  order: readonly number[],
  cuts: readonly Cut[],
  limit: number,
): Float32Array {
  const y = new Float32Array(m * spec.out);
  for (let token = 0; token < m; token++) {
    const row = x.subarray(token * spec.in, (token + 1) * spec.in);
    const parts = cuts.map(([start, end]) => {
      const values = order.slice(start, end).map((k) => row[k]!);
      const most = Math.max(...values.map(Math.abs));
      if (most < 1e-30) return { d: 0, codes: values.map(() => 0), sum: 0 };
      const factor = Math.fround(limit / most);
      const codes = values.map((value) => nearest(value, factor));
      return { d: Math.fround(most / limit), codes, sum: codes.reduce((a, b) => a + b, 0) };
    });
    for (let n = 0; n < spec.out; n++) {
      let sum = 0;
      cuts.forEach(([start], i) => {
        const { d, codes, sum: total } = parts[i]!;
        const group = meaning.group(order[start]!);
        let integer = -meaning.zero(group, n) * total;
        for (let j = 0; j < codes.length; j++) integer += meaning.code(order[start + j]!, n) * codes[j]!;
        sum = Math.fround(sum + Math.fround(integer * Math.fround(meaning.scale(group, n) * d)));
      });
      y[token * spec.out + n] = meaning.bias ? Math.fround(sum + meaning.bias[n]!) : sum;
    }
  }
  return y;
}
