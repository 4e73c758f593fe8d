// All CPU kernels of one WebAssembly module. Every pointer is a byte offset into the shared
// memory that the host imports as env.memory; several workers run these functions at the
// same time on disjoint ranges. Compiled three times by scripts/build-wasm.js: with relaxed SIMD
// (dist/wasm/kernels-relaxed.wasm), the same with products by one instruction where the processor has
// it (kernels-dot.wasm, dot-add.ts), and without (kernels-simd.wasm). The integer kernels give the
// same bits in all; the float ones differ in last bits, for the relaxed builds fuse
// multiplication and addition.

export * from "./adapter-rows";
export * from "./cache-codes";
export * from "./memory-read";
export * from "./quantized-activations";
export * from "./quantized-bytes";
export * from "./quantized-nibbles";
export * from "./quantized-segments";
export * from "./read-ahead";
export * from "./static-data";
export * from "./pack-codes";
export * from "./pack-plain";
export * from "./pack-scales";
export * from "./float-attention";
export * from "./float-linear";
export * from "./float-rows";
export * from "./team";
