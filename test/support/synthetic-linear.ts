// Random linear layers as a checkpoint stores them, each with the exact numbers it means.
// GPTQ ones are made the way a quantiser makes them (round to nearest within each group), so
// that zeros, scales and their spread look like real ones.

import type { DenseLinear } from "../reference/model.js";
import { dtypeOfFloat, encodeFloats, encodeWords, type FloatType, nearestOf, roundedTo } from "./element-types.js";
import { packWeights, packZeros } from "./gptq-packer.js";
import type { Random } from "./random.js";
import type { WrittenTensor } from "./safetensors-writer.js";

export interface PlainWeights {
  readonly kind: "plain";
  readonly dtype: FloatType;
}

/** How the group of each input row is told. */
export type GroupOrder =
  /** no g_idx tensor: row / groupSize */
  | "absent"
  /** g_idx that says just that */
  | "sequential"
  /** act-order: the groups of a random permutation of the rows */
  | "act-order"
  /** any group for any row: groups of unequal size, some of them empty */
  | "irregular"
  /** every row in group 0, though there are more groups */
  | "all-zero";

export interface GptqWeights {
  readonly kind: "gptq";
  readonly bits: 2 | 3 | 4 | 8;
  /** −1: all rows in one group. */
  readonly groupSize: number;
  /** v1 stores zero − 1. */
  readonly zeros: "v1" | "v2";
  readonly symmetric: boolean;
  readonly order: GroupOrder;
  readonly scaleDtype: FloatType;
}

export type WeightFormat = PlainWeights | GptqWeights;

/** Mistakes that a reader of GPTQ weights can make; used to show that the suite would notice. */
export type GptqMisreading =
  /** zero − 1 taken for the zero, or the zero for zero − 1 */
  | "zeros of the other format"
  /** rows taken in sequence whatever g_idx says */
  | "g_idx ignored"
  /** the last group's rows read with the first group's scales and zeros */
  | "last group lost";

/** A linear layer twice: as tensors of a file, and as what they mean. */
export interface SyntheticLinear {
  readonly tensors: readonly WrittenTensor[];
  readonly truth: DenseLinear;
  /** What a mistaken reader would take it for. */
  readonly misread: (misreading: GptqMisreading) => DenseLinear;
}

export interface LinearShape {
  readonly name: string;
  readonly in: number;
  readonly out: number;
  readonly bias: boolean;
  /** Standard deviation of the weights. */
  readonly deviation: number;
}

export function randomLinear(random: Random, shape: LinearShape, format: WeightFormat): SyntheticLinear {
  const wanted = random.normals(shape.out * shape.in, shape.deviation);
  const stored = format.kind === "plain" ? plain(shape, format, wanted) : gptq(random, shape, format, wanted);
  if (!shape.bias) return stored;
  const type = format.kind === "plain" ? format.dtype : format.scaleDtype;
  const bias = roundedTo(random.normals(shape.out, 0.3), type);
  return {
    tensors: [...stored.tensors, floatTensor(`${shape.name}.bias`, [shape.out], bias, type)],
    truth: { ...stored.truth, bias },
    misread: (misreading) => ({ ...stored.misread(misreading), bias }),
  };
}

export function floatTensor(name: string, shape: number[], values: Float64Array, type: FloatType): WrittenTensor {
  return { name, dtype: dtypeOfFloat[type], shape, data: encodeFloats(values, type) };
}

function plain(shape: LinearShape, format: PlainWeights, wanted: Float64Array): SyntheticLinear {
  const weight = roundedTo(wanted, format.dtype);
  const truth: DenseLinear = { in: shape.in, out: shape.out, weight, bias: null };
  return {
    tensors: [floatTensor(`${shape.name}.weight`, [shape.out, shape.in], weight, format.dtype)],
    truth,
    misread: () => truth,
  };
}

function gptq(random: Random, shape: LinearShape, format: GptqWeights, wanted: Float64Array): SyntheticLinear {
  const { name, in: rows, out } = shape;
  const groupSize = format.groupSize === -1 ? rows : format.groupSize;
  const groups = Math.ceil(rows / groupSize);
  const groupOf = groupsOfRows(random, format.order, rows, groupSize, groups);
  const codes = roundToNearest(shape, format, wanted, groupOf, groups);
  const read = (misreading: GptqMisreading | null): DenseLinear => {
    const shift = misreading === "zeros of the other format" ? (format.zeros === "v1" ? 1 : -1) : 0;
    const readGroups = groupOf.map((group, row) => {
      const read = misreading === "g_idx ignored" ? Math.floor(row / groupSize) : group;
      return misreading === "last group lost" && read === groups - 1 ? 0 : read;
    });
    return { in: rows, out, weight: dequantize(codes, readGroups, out, shift), bias: null };
  };

  const { q, zeros, scales } = codes;
  const storedZeros = format.zeros === "v1" ? zeros.map((zero) => zero - 1) : zeros;
  const words = (packed: Int32Array, suffix: string, dims: number[]): WrittenTensor => {
    return { name: `${name}.${suffix}`, dtype: "I32", shape: dims, data: encodeWords(packed) };
  };
  return {
    tensors: [
      words(packWeights(q, rows, out, format.bits), "qweight", [(rows * format.bits) / 32, out]),
      words(packZeros(storedZeros, groups, out, format.bits), "qzeros", [groups, (out * format.bits) / 32]),
      floatTensor(`${name}.scales`, [groups, out], scales, format.scaleDtype),
      ...(format.order === "absent" ? [] : [words(groupOf, "g_idx", [rows])]),
    ],
    truth: read(null),
    misread: read,
  };
}

interface Codes {
  /** `[in, out]` */
  readonly q: Uint16Array;
  /** `[groups, out]` */
  readonly zeros: Uint16Array;
  /** `[groups, out]` */
  readonly scales: Float64Array;
}

/** @param wanted `[out, in]` @param groupOf the group of each input row */
function roundToNearest(
  { in: rows, out, deviation }: LinearShape,
  format: GptqWeights,
  wanted: Float64Array,
  groupOf: Int32Array,
  groups: number,
): Codes {
  const levels = 2 ** format.bits - 1;
  const q = new Uint16Array(rows * out);
  const zeros = new Uint16Array(groups * out);
  const scales = new Float64Array(groups * out);
  // Of a column's groups: the extremes of its weights.
  const lows = new Float64Array(groups);
  const highs = new Float64Array(groups);
  for (let column = 0; column < out; column++) {
    lows.fill(0);
    highs.fill(0);
    for (let row = 0; row < rows; row++) {
      const group = groupOf[row]!;
      const weight = wanted[column * rows + row]!;
      if (weight < lows[group]!) lows[group] = weight;
      if (weight > highs[group]!) highs[group] = weight;
    }
    for (let group = 0; group < groups; group++) {
      const range = rangeOf(lows[group]!, highs[group]!, deviation, format, levels);
      scales[group * out + column] = nearestOf(range.scale, format.scaleDtype);
      zeros[group * out + column] = range.zero;
    }
    for (let row = 0; row < rows; row++) {
      const at = groupOf[row]! * out + column;
      const level = Math.round(wanted[column * rows + row]! / scales[at]!) + zeros[at]!;
      q[row * out + column] = Math.min(Math.max(level, 0), levels);
    }
  }
  return { q, zeros, scales };
}

/** @returns `[out, in]` */
function dequantize({ q, zeros, scales }: Codes, groupOf: Int32Array, out: number, shift: number): Float64Array {
  const rows = groupOf.length;
  const weight = new Float64Array(out * rows);
  for (let column = 0; column < out; column++) {
    for (let row = 0; row < rows; row++) {
      const at = groupOf[row]! * out + column;
      weight[column * rows + row] = (q[row * out + column]! - zeros[at]! + shift) * scales[at]!;
    }
  }
  return weight;
}

/** The scale and zero with which `levels` + 1 steps span weights from `low` ≤ 0 to `high` ≥ 0. */
function rangeOf(low: number, high: number, deviation: number, format: GptqWeights, levels: number) {
  if (format.symmetric) {
    // Two bits have only the levels −2 … 1: spanning the extremes would leave most weights 0.
    const reach = format.bits === 2 ? 1.5 * deviation : Math.max(-low, high, deviation / 10);
    return { scale: (2 * reach) / levels, zero: (levels + 1) / 2 };
  }
  const scale = Math.max(high - low, deviation / 10) / levels;
  // v1 stores zero − 1, so a zero of 0 has no agreed spelling there: readers differ on whether
  // the all-ones that remain mean 0 or levels + 1. Quantisers in use avoid it, and so do we.
  const zero = Math.round(-low / scale);
  return { scale, zero: Math.min(Math.max(zero, format.zeros === "v1" ? 1 : 0), levels) };
}

function groupsOfRows(random: Random, order: GroupOrder, rows: number, groupSize: number, groups: number): Int32Array {
  const sequential = Int32Array.from({ length: rows }, (_, row) => Math.floor(row / groupSize));
  if (order === "absent" || order === "sequential") return sequential;
  if (order === "all-zero") return new Int32Array(rows);
  if (order === "irregular") return sequential.map(() => random.integer(groups));
  const permutation = random.permutation(rows);
  const groupOf = new Int32Array(rows);
  permutation.forEach((row, rank) => {
    groupOf[row] = sequential[rank]!;
  });
  return groupOf;
}
