// Contents of small floating-point tensors as numbers, for those that are looked at on the host.

import type { Dtype } from "./checkpoint.js";

/** Dtypes that decodeValues() reads. */
export type PlainDtype = Extract<Dtype, "F16" | "BF16" | "F32">;

export function isPlainDtype(dtype: Dtype): dtype is PlainDtype {
  return dtype === "F16" || dtype === "BF16" || dtype === "F32";
}

/** Little-endian values → f32, every one exactly. */
export function decodeValues(dtype: PlainDtype, bytes: Uint8Array): Float32Array {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const size = dtype === "F32" ? 4 : 2;
  const values = new Float32Array(bytes.byteLength / size);
  const words = new Uint32Array(values.buffer);
  if (dtype === "F32") for (let i = 0; i < values.length; i++) words[i] = view.getUint32(i * 4, true);
  else if (dtype === "BF16") for (let i = 0; i < values.length; i++) words[i] = view.getUint16(i * 2, true) << 16;
  else for (let i = 0; i < values.length; i++) values[i] = halfValue(view.getUint16(i * 2, true));
  return values;
}

function halfValue(bits: number): number {
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  const sign = bits & 0x8000 ? -1 : 1;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  if (exponent === 31) return fraction ? Number.NaN : sign * Number.POSITIVE_INFINITY;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}
