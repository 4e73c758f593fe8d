// Numbers ↔ the bytes of a safetensors file, in the plainest form: one value at a time, by
// the definition of each format. The product has its own, faster conversions; these are here
// so that a mistake there is not made twice.

export type FloatType = "f16" | "bf16" | "f32";

const double = new Float64Array(1);
/** Its words, the lower one first. */
const doubleWords = new Uint32Array(double.buffer);
const single = new Float32Array(1);
const singleWord = new Uint32Array(single.buffer);
/** 2^−24 … 2^5. */
const powersOfTwo = Float64Array.from({ length: 30 }, (_, i) => 2 ** (i - 24));

/** IEEE binary16, rounded to nearest, ties to even. */
export function toHalfBits(value: number): number {
  if (Number.isNaN(value)) return 0x7e00;
  double[0] = value;
  const high = doubleWords[1]!;
  const sign = (high >>> 16) & 0x8000;
  const size = Math.abs(value);
  if (size >= 65520) return sign | 0x7c00;
  // The spacing of halves around `size`: 2^(exponent − 10), and 2^−24 below the normal range.
  const exponent = Math.max(((high >>> 20) & 2047) - 1023, -14);
  return sign + (exponent + 14) * 1024 + roundToEven(size / powersOfTwo[exponent - 10 + 24]!);
}

/** Numbers from 2^52 on have no fractions: adding it leaves the rounding to the processor. */
function roundToEven(value: number): number {
  return value + 2 ** 52 - 2 ** 52;
}

export function fromHalfBits(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  if (exponent === 31) return fraction ? Number.NaN : sign * Number.POSITIVE_INFINITY;
  return exponent === 0 ? sign * fraction * 2 ** -24 : sign * (1024 + fraction) * powersOfTwo[exponent - 1]!;
}

/** The upper half of a float32, rounded to nearest, ties to even. */
export function toBrainBits(value: number): number {
  if (Number.isNaN(value)) return 0x7fc0;
  single[0] = value;
  const bits = singleWord[0]!;
  return ((bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16) & 0xffff;
}

export function fromBrainBits(bits: number): number {
  singleWord[0] = bits << 16;
  return single[0]!;
}

export const bytesOfFloat: Readonly<Record<FloatType, number>> = { f16: 2, bf16: 2, f32: 4 };
export const dtypeOfFloat = { f16: "F16", bf16: "BF16", f32: "F32" } as const;

type HalfSized = "f16" | "bf16";
const toBits: Readonly<Record<HalfSized, (value: number) => number>> = { f16: toHalfBits, bf16: toBrainBits };
const fromBits: Readonly<Record<HalfSized, (bits: number) => number>> = { f16: fromHalfBits, bf16: fromBrainBits };

/** Little-endian bytes of these numbers, each rounded to the type. */
export function encodeFloats(values: ArrayLike<number>, type: FloatType): Uint8Array {
  if (type === "f32") return new Uint8Array(Float32Array.from(values).buffer);
  const to = toBits[type];
  const bits = new Uint16Array(values.length);
  for (let i = 0; i < bits.length; i++) bits[i] = to(values[i]!);
  return new Uint8Array(bits.buffer);
}

export function decodeFloats(bytes: Uint8Array, type: FloatType): Float64Array {
  // A copy begins at a multiple of its elements' size, wherever the original does.
  const { buffer } = new Uint8Array(bytes);
  if (type === "f32") return Float64Array.from(new Float32Array(buffer));
  // Chosen once, not per element: V8 12.4 (Node 22), while it optimises a loop, can take a string that
  // was just made (`dtype.toLowerCase()`) for unequal to the same constant, once or twice.
  const from = fromBits[type];
  const bits = new Uint16Array(buffer);
  const values = new Float64Array(bits.length);
  for (let i = 0; i < values.length; i++) values[i] = from(bits[i]!);
  return values;
}

/** The number of this type that is nearest to `value`. */
export function nearestOf(value: number, type: FloatType): number {
  return type === "f32" ? Math.fround(value) : fromBits[type](toBits[type](value));
}

/** What is left of these numbers after being stored in this type. */
export function roundedTo(values: ArrayLike<number>, type: FloatType): Float64Array {
  return decodeFloats(encodeFloats(values, type), type);
}

/** Little-endian bytes of 32-bit words. */
export function encodeWords(words: Int32Array): Uint8Array {
  return new Uint8Array(words.slice().buffer);
}
