// The kernels, compiled by the engine; workers get the Modules by message. All kernels exist with
// relaxed SIMD, about a third faster, and without. The linears exist once more as a module of their
// own, "products", that stands in for theirs where more can be had: products by one instruction
// ("dot"), 256-bit operations ("wide", see wide-simd.ts), or both. All give the same integers; float
// sums of kernels without relaxed SIMD may differ in last bits.

import { readFileSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { setFlagsFromString } from "node:v8";
import { isMainThread } from "node:worker_threads";
import { distFile } from "../../paths.js";
import { instantiate, type KernelModules } from "./kernels.js";
import { CHECK_PAGES, sameProducts } from "./same-products.js";
import { compileWide, hasWideSimd } from "./wide-simd.js";

export interface KernelBuild {
  readonly kernels: "relaxed" | "simd";
  /** What stands in for the linears of the kernels. */
  readonly products: "dot" | "relaxed" | null;
  /** Whether products may be of 256 bits. */
  readonly wide: boolean;
}

export interface LoadedKernels extends KernelModules {
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
 * Reads and compiles the kernels that are fastest here. `EXLLAMA_NO_RELAXED_SIMD=1` chooses the plain
 * ones, `EXLLAMA_NO_WIDE_SIMD=1` does without 256-bit operations. So does an engine in a thread: the flag
 * for them is the whole process's, and that process is not ours.
 */
export async function loadKernelModules(): Promise<LoadedKernels> {
  const build = chooseBuild({
    relaxed: process.env.EXLLAMA_NO_RELAXED_SIMD !== "1" && allowRelaxedSimd(),
    ownProcess: process.env.EXLLAMA_NO_WIDE_SIMD !== "1" && isMainThread,
    v8: process.versions.v8,
    processor: processorFlags(),
  });
  const kernels = new WebAssembly.Module(await wasmFile(`kernels-${build.kernels}`));
  if (!build.products) return { build, kernels, products: null };
  const bytes = await wasmFile(`products-${build.products}`);
  if (!build.wide) return { build, kernels, products: new WebAssembly.Module(bytes) };
  const products = compileWide(bytes);
  if (trusted(products, kernels)) return { build, kernels, products };
  return { build: { ...build, products: null, wide: false }, kernels, products: null };
}

/**
 * @param facts `relaxed`: whether relaxed SIMD is allowed; `ownProcess`: whether flags may be set that others
 *   would feel; `v8`: its version; `processor`: the flags of the processor as Linux names them, empty where
 *   nobody says them
 */
export function chooseBuild(facts: {
  relaxed: boolean;
  ownProcess: boolean;
  v8: string;
  processor: ReadonlySet<string>;
}): KernelBuild {
  if (!facts.relaxed) return { kernels: "simd", products: null, wide: false };
  const dot = Number.parseInt(facts.v8, 10) >= DOT_FROM_V8 && facts.processor.has("avx_vnni");
  const wide = facts.ownProcess && hasWideSimd(facts.v8, facts.processor);
  return { kernels: "relaxed", products: dot ? "dot" : wide ? "relaxed" : null, wide };
}

function wasmFile(name: string): Promise<Uint8Array> {
  return readFile(distFile(`wasm/${name}.wasm`));
}

function trusted(products: WebAssembly.Module, kernels: WebAssembly.Module): boolean {
  const memory = new WebAssembly.Memory({ initial: CHECK_PAGES, maximum: CHECK_PAGES, shared: true });
  const all = instantiate({ kernels, products }, memory);
  return sameProducts(all, instantiate({ kernels, products: null }, memory), memory);
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
