// The kernels, compiled once per process; workers get the Module by message. Relaxed SIMD is
// about a third faster; where the engine or the user does not allow it, the plain build serves:
// the same integer products, float sums that may differ in last bits.

import { readFile } from "node:fs/promises";
import { setFlagsFromString } from "node:v8";
import { distFile } from "../../paths.js";

export interface KernelModule {
  readonly module: WebAssembly.Module;
  /** Whether it is the relaxed-SIMD build. */
  readonly relaxed: boolean;
}

/** (v128, v128) → v128: i16x8.relaxed_dot_i8x16_i7x16_s */
const PROBE = Uint8Array.of(
  ...[0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00], // magic, version
  ...[0x01, 0x07, 0x01, 0x60, 0x02, 0x7b, 0x7b, 0x01, 0x7b], // the function's type
  ...[0x03, 0x02, 0x01, 0x00], // one function of it
  ...[0x0a, 0x0b, 0x01, 0x09, 0x00, 0x20, 0x00, 0x20, 0x01, 0xfd, 0x92, 0x02, 0x0b], // its body
);

/**
 * Reads and compiles the build of the kernels that this engine can run.
 * `EXLLAMA_NO_RELAXED_SIMD=1` chooses the plain one.
 */
export async function loadKernelModule(): Promise<KernelModule> {
  const relaxed = process.env.EXLLAMA_NO_RELAXED_SIMD !== "1" && allowRelaxedSimd();
  const bytes = await readFile(distFile(`wasm/kernels-${relaxed ? "relaxed" : "simd"}.wasm`));
  return { module: new WebAssembly.Module(bytes), relaxed };
}

function allowRelaxedSimd(): boolean {
  if (WebAssembly.validate(PROBE)) return true;
  // Node 20 has it behind a flag; engines that know no such flag ignore it.
  setFlagsFromString("--experimental-wasm-relaxed-simd");
  return WebAssembly.validate(PROBE);
}
