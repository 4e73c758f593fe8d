// f32 → f16 on the host, for the small tensors that are packed there.

const word = new Uint32Array(1);
const float = new Float32Array(word.buffer);

/** Bits of the nearest f16, ties to even; too large becomes an infinity, NaN stays NaN. */
export function halfBits(value: number): number {
  float[0] = value;
  const bits = word[0]!;
  const sign = (bits >>> 16) & 0x8000;
  const magnitude = bits & 0x7fffffff;
  if (magnitude > 0x7f800000) return sign | 0x7e00;
  if (magnitude >= 0x477ff000) return sign | 0x7c00;
  if (magnitude >= 0x38800000) return sign | ((magnitude - 0x38000000 + 0xfff + ((magnitude >>> 13) & 1)) >>> 13);
  // Below f16's normal numbers: adding 0.5 rounds to a multiple of 2^-24.
  word[0] = magnitude;
  float[0] = float[0]! + 0.5;
  return sign | (word[0]! - 0x3f000000);
}
