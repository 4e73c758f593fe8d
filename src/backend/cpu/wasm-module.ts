// The kernels, compiled once per process; workers get the Module by message. Three builds, each the
// fastest somewhere: relaxed SIMD is about a third faster than plain; the build named "dot" a fifth
// faster still for prompts, but only where one instruction makes its products. All give the same
// integers; float sums of the plain one may differ in last bits.

import { readFileSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { setFlagsFromString } from "node:v8";
import { distFile } from "../../paths.js";

export type KernelBuild = "dot" | "relaxed" | "simd";

export interface KernelModule {
  readonly module: WebAssembly.Module;
  readonly build: KernelBuild;
}

/** (v128, v128) → v128: i16x8.relaxed_dot_i8x16_i7x16_s */
const PROBE = Uint8Array.of(
  ...[0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00], // magic, version
  ...[0x01, 0x07, 0x01, 0x60, 0x02, 0x7b, 0x7b, 0x01, 0x7b], // the function's type
  ...[0x03, 0x02, 0x01, 0x00], // one function of it
  ...[0x0a, 0x0b, 0x01, 0x09, 0x00, 0x20, 0x00, 0x20, 0x01, 0xfd, 0x92, 0x02, 0x0b], // its body
);

/** V8 13 (Node 24) is the first that makes `i32x4.relaxed_dot_i8x16_i7x16_add_s` one instruction of AVX-VNNI. */
export const DOT_FROM_V8 = 13;

/**
 * Reads and compiles the build of the kernels that is fastest here.
 * `EXLLAMA_NO_RELAXED_SIMD=1` chooses the plain one.
 */
export async function loadKernelModule(): Promise<KernelModule> {
  const build = chooseBuild({
    relaxed: process.env.EXLLAMA_NO_RELAXED_SIMD !== "1" && allowRelaxedSimd(),
    v8: process.versions.v8,
    processor: processorFlags(),
  });
  const bytes = await readFile(distFile(`wasm/kernels-${build}.wasm`));
  return { module: new WebAssembly.Module(bytes), build };
}

/**
 * @param facts `relaxed`: whether relaxed SIMD is allowed; `v8`: its version; `processor`: the flags
 *   of the processor as Linux names them, empty where nobody says them
 */
export function chooseBuild(facts: { relaxed: boolean; v8: string; processor: ReadonlySet<string> }): KernelBuild {
  if (!facts.relaxed) return "simd";
  return Number.parseInt(facts.v8, 10) >= DOT_FROM_V8 && facts.processor.has("avx_vnni") ? "dot" : "relaxed";
}

/** Linux says what a processor can do; elsewhere nothing is known, and nothing is presumed. */
function processorFlags(): ReadonlySet<string> {
  if (process.platform !== "linux") return new Set();
  try {
    return new Set(/^flags\s*:(.*)$/m.exec(readFileSync("/proc/cpuinfo", "utf8"))?.[1]?.trim().split(/\s+/));
  } catch {
    return new Set();
  }
}

function allowRelaxedSimd(): boolean {
  if (WebAssembly.validate(PROBE)) return true;
  // Node 20 has it behind a flag; engines that know no such flag ignore it.
  setFlagsFromString("--experimental-wasm-relaxed-simd");
  return WebAssembly.validate(PROBE);
}
