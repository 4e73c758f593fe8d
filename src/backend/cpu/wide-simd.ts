// 256-bit operations from 128-bit WebAssembly: V8 can join two neighbouring operations into one of
// AVX2, which halves the instructions of a product. It is an experiment of V8's behind a flag, so it
// is kept on a short lead: only for the module of products; only in versions of V8 in which it has
// been tried, for others may crash; only in a process of our own, for flags are the whole process's;
// and only if the result passes sameProducts(), for V8 does make mistakes (see below).
//
// What V8 joins must end in two stores side by side, with no other store between them, and be the same
// on both sides, operand by operand, with loads from constant offsets of one address. So wasm/*-rows.ts
// and wasm/*-products.ts work on groups of four rows in pairs, compute first and store last (the former only in the
// modules of products, wasm/joined.ts, for nothing is gained by that order elsewhere). The
// higher address is stored first: V8 stores the lower one twice otherwise. It also lets the compiler in
// front of V8 keep the order of the loads before: of two joined loads that widen bytes, V8 13 takes
// the address of the one that comes first, right only if that is the lower one.

import { setFlagsFromString } from "node:v8";

/** Node 24 and Node 26. Node 22 has the flag, but joins nothing of these kernels. */
const TRIED_V8: readonly string[] = ["13.6", "14.6"];

/** Each as it is set for the compilation, and as it is by default. */
const FLAGS = [
  ["--experimental-wasm-revectorize", "--no-experimental-wasm-revectorize"],
  // Only the optimising compiler joins, and only if it compiles before the first call.
  ["--no-liftoff", "--liftoff"],
  ["--no-wasm-lazy-compilation", "--wasm-lazy-compilation"],
  // Inlining asks how often functions were called, and V8 14 ends the process where nobody counted.
  ["--no-wasm-inlining", "--wasm-inlining"],
] as const;

/** A custom section without contents, named "wide": V8 keeps one compiled module for equal bytes, however they were compiled. */
const MARK = Uint8Array.of(0, 5, 4, ...new TextEncoder().encode("wide"));

/**
 * @param v8 its version
 * @param processor flags of the processor as Linux names them
 */
export function hasWideSimd(v8: string, processor: ReadonlySet<string>): boolean {
  const [major, minor] = v8.split(".");
  return TRIED_V8.includes(`${major}.${minor}`) && processor.has("avx2");
}

/** Compiles a module at once, with 256-bit operations where V8 finds any. */
export function compileWide(bytes: Uint8Array): WebAssembly.Module {
  const marked = new Uint8Array(bytes.length + MARK.length);
  marked.set(bytes);
  marked.set(MARK, bytes.length);
  try {
    for (const [on] of FLAGS) setFlagsFromString(on);
    return new WebAssembly.Module(marked);
  } finally {
    for (const [, off] of FLAGS) setFlagsFromString(off);
  }
}
