// Numbers ↔ the bytes of a safetensors file, in the plainest form: one value at a time, by
// the definition of each format. The product has its own, faster conversions; these are here
// so that a mistake there is not made twice.

export type FloatType = "f16" | "bf16" | "f32";

const scratch = new DataView(new ArrayBuffer(4));
/** 2^−24 … 2^5. */
const powersOfTwo = Array.from({ length: 30 }, (_, i) => 2 ** (i - 24));

/** IEEE binary16, rounded to nearest, ties to even. */
export function toHalfBits(value: number): number {
  if (Number.isNaN(value)) return 0x7e00;
  const sign = value < 0 || Object.is(value, -0) ? 0x8000 : 0;
  const size = Math.abs(value);
  if (size >= 65520) return sign | 0x7c00;
  // The spacing of halves around `size`: 2^(exponent − 10), and 2^−24 below the normal range.
  scratch.setFloat32(0, size);
  const exponent = Math.max((scratch.getUint32(0) >>> 23) - 127, -14);
  const steps = roundToEven(size / powersOfTwo[exponent - 10 + 24]!);
  return sign + (exponent + 14) * 1024 + steps;
}

function roundToEven(value: number): number {
  const floor = Math.floor(value);
  const rest = value - floor;
  if (rest !== 0.5) return Math.round(value);
  return floor % 2 === 0 ? floor : floor + 1;
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
  scratch.setFloat32(0, value);
  const bits = scratch.getUint32(0);
  if (Number.isNaN(value)) return 0x7fc0;
  return ((bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16) & 0xffff;
}

export function fromBrainBits(bits: number): number {
  scratch.setUint32(0, bits << 16);
  return scratch.getFloat32(0);
}

export const bytesOfFloat: Readonly<Record<FloatType, number>> = { f16: 2, bf16: 2, f32: 4 };
export const dtypeOfFloat = { f16: "F16", bf16: "BF16", f32: "F32" } as const;

/** Little-endian bytes of these numbers, each rounded to the type. */
export function encodeFloats(values: ArrayLike<number>, type: FloatType): Uint8Array {
  const bytes = new Uint8Array(values.length * bytesOfFloat[type]);
  const view = new DataView(bytes.buffer);
  for (let i = 0; i < values.length; i++) {
    if (type === "f32") view.setFloat32(i * 4, values[i]!, true);
    else view.setUint16(i * 2, type === "f16" ? toHalfBits(values[i]!) : toBrainBits(values[i]!), true);
  }
  return bytes;
}

export function decodeFloats(bytes: Uint8Array, type: FloatType): Float64Array {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const read = readers[type](view);
  const values = new Float64Array(bytes.length / bytesOfFloat[type]);
  for (let i = 0; i < values.length; i++) values[i] = read(i);
  return values;
}

// Chosen once, not per element: V8 12.4 (Node 22), while it optimises a loop, can take a string that
// was just made (`dtype.toLowerCase()`) for unequal to the same constant, once or twice.
const readers: Readonly<Record<FloatType, (view: DataView) => (i: number) => number>> = {
  f32: (view) => (i) => view.getFloat32(i * 4, true),
  f16: (view) => (i) => fromHalfBits(view.getUint16(i * 2, true)),
  bf16: (view) => (i) => fromBrainBits(view.getUint16(i * 2, true)),
};

/** What is left of these numbers after being stored in this type. */
export function roundedTo(values: ArrayLike<number>, type: FloatType): Float64Array {
  return decodeFloats(encodeFloats(values, type), type);
}

/** Little-endian bytes of 32-bit words. */
export function encodeWords(words: Int32Array): Uint8Array {
  const bytes = new Uint8Array(words.length * 4);
  const view = new DataView(bytes.buffer);
  words.forEach((word, i) => {
    view.setInt32(i * 4, word, true);
  });
  return bytes;
}
