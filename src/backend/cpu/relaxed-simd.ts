// Relaxed SIMD in engines that hide it behind a flag (Node 20). The flag is on only while a module is
// compiled: flags are the whole process's, and under other flags than those Node was built with V8 does
// not use the compiled code that Node brings along for its own modules, so that every thread that is
// started later takes a quarter longer to start.

import { setFlagsFromString } from "node:v8";

/** (v128, v128) → v128: i16x8.relaxed_dot_i8x16_i7x16_s */
const PROBE = Uint8Array.of(
  ...[0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00], // magic, version
  ...[0x01, 0x07, 0x01, 0x60, 0x02, 0x7b, 0x7b, 0x01, 0x7b], // the function's type
  ...[0x03, 0x02, 0x01, 0x00], // one function of it
  ...[0x0a, 0x0b, 0x01, 0x09, 0x00, 0x20, 0x00, 0x20, 0x01, 0xfd, 0x92, 0x02, 0x0b], // its body
);

/** Whether this engine has relaxed SIMD, behind a flag or not. */
export function hasRelaxedSimd(): boolean {
  return withRelaxedSimd(() => WebAssembly.validate(PROBE));
}

/** Runs `compile` with relaxed SIMD allowed. What it has compiled is not held to the flag afterwards. */
export function withRelaxedSimd<T>(compile: () => T): T {
  if (WebAssembly.validate(PROBE)) return compile();
  // Engines that know no such flag ignore it.
  setFlagsFromString("--experimental-wasm-relaxed-simd");
  try {
    return compile();
  } finally {
    setFlagsFromString("--no-experimental-wasm-relaxed-simd");
  }
}
