// The kernels, compiled by the engine; workers get the Modules by message. All kernels exist with
// relaxed SIMD, about a third faster, and without. The linears exist once more as a module of their
// own, "products", that stands in for theirs where more can be had: products by one instruction
// ("dot"), 256-bit operations ("wide", see wide-simd.ts), or both. All give the same integers; float
// sums of kernels without relaxed SIMD may differ in last bits.

import { readFileSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { isMainThread } from "node:worker_threads";
import { distFile } from "../../paths.js";
import { instantiate, type KernelModules } from "./kernels.js";
import { hasRelaxedSimd, withRelaxedSimd } from "./relaxed-simd.js";
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

/** V8 13 (Node 24) is the first that makes `i32x4.relaxed_dot_i8x16_i7x16_add_s` one instruction of AVX-VNNI. */
export const DOT_FROM_V8 = 13;

/** What has been loaded in this process, by its build: models that come later find it compiled and optimised. */
const loaded = new Map<string, Promise<LoadedKernels>>();

/**
 * Reads and compiles the kernels that are fastest here, once in a process. `EXLLAMA_NO_RELAXED_SIMD=1` chooses
 * the plain ones, `EXLLAMA_NO_WIDE_SIMD=1` does without 256-bit operations. So does an engine in a thread: the
 * flag for them is the whole process's, and that process is not ours.
 */
export function loadKernelModules(): Promise<LoadedKernels> {
  const build = chooseBuild({
    relaxed: process.env.EXLLAMA_NO_RELAXED_SIMD !== "1" && hasRelaxedSimd(),
    ownProcess: process.env.EXLLAMA_NO_WIDE_SIMD !== "1" && isMainThread,
    v8: process.versions.v8,
    processor: processorFlags(),
  });
  const key = JSON.stringify(build);
  let modules = loaded.get(key);
  if (!modules) {
    modules = compileBuild(build);
    modules.catch(() => loaded.delete(key));
    loaded.set(key, modules);
  }
  return modules;
}

async function compileBuild(build: KernelBuild): Promise<LoadedKernels> {
  const bytes = await wasmFile(`kernels-${build.kernels}`);
  const kernels = withRelaxedSimd(() => new WebAssembly.Module(bytes));
  if (!build.products) return { build, kernels, products: null };
  const productBytes = await wasmFile(`products-${build.products}`);
  if (!build.wide) return { build, kernels, products: withRelaxedSimd(() => new WebAssembly.Module(productBytes)) };
  const products = compileWide(productBytes);
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
