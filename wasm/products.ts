// The linears in the record form once more, as a module of its own: the part of the kernels that
// gains from instructions which not every engine and processor has. Built twice by
// scripts/build-wasm.js: with products of byte pairs (dist/wasm/products-relaxed.wasm), and with
// products that one instruction makes (products-dot.wasm, dot-add.ts). It brings no data along, so it
// can stand beside the other kernels over the same memory. src/backend/cpu/wasm-module.ts chooses.

export { linear_bytes } from "./quantized-bytes";
export { linear_nibbles_f16, linear_nibbles_f32, linear_symmetric_f16 } from "./quantized-nibbles";
// Exported, or the compiler would take them for constants.
export { nibbleMask } from "./nibbles";
export { f16Factor, f16Kept } from "./quantized-rows";
