// All CPU kernels of one WebAssembly module. Every pointer is a byte offset into the shared
// memory that the host imports as env.memory; several workers run these functions at the
// same time on disjoint ranges. Compiled twice by scripts/build-wasm.js: with relaxed SIMD
// (dist/wasm/kernels-relaxed.wasm) and without (kernels-simd.wasm). The integer kernels give the
// same bits in both; the float ones differ in last bits, for the relaxed build fuses multiplication
// and addition. products.ts makes modules of some of these kernels alone.

export * from "./adapter-rows";
export * from "./cache-codes";
export * from "./dequantize";
export * from "./memory-read";
export { nibbleMask } from "./nibbles";
export * from "./quantized-activations";
export * from "./quantized-bytes";
export * from "./quantized-nibbles";
export { f16Factor, f16Kept } from "./quantized-rows";
export * from "./quantized-segments";
export * from "./touch-lines";
export * from "./static-data";
export * from "./pack-codes";
export * from "./pack-plain";
export * from "./pack-scales";
export * from "./float-attention";
export * from "./float-linear";
export * from "./float-rows";
export * from "./team";
