// The limit that the benchmark compares against: reading memory and doing nothing with it.

/** XOR of `bytes` (a multiple of 128) from `from`, so that no compiler drops the loads. */
export function memory_read(from: usize, bytes: usize): i64 {
  let a = i64x2.splat(0), b = a, c = a, d = a;
  const end = from + bytes;
  while (from < end) {
    a = v128.xor(a, v128.load(from)); b = v128.xor(b, v128.load(from, 16));
    c = v128.xor(c, v128.load(from, 32)); d = v128.xor(d, v128.load(from, 48));
    a = v128.xor(a, v128.load(from, 64)); b = v128.xor(b, v128.load(from, 80));
    c = v128.xor(c, v128.load(from, 96)); d = v128.xor(d, v128.load(from, 112));
    from += 128;
  }
  a = v128.xor(v128.xor(a, b), v128.xor(c, d));
  return i64x2.extract_lane(a, 0) ^ i64x2.extract_lane(a, 1);
}
