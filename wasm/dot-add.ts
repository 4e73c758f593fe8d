/**
 * Whether products are made by `i32x4.relaxed_dot_i8x16_i7x16_add_s`: one instruction (vpdpbusd)
 * where the processor has it, three where not. scripts/build-wasm.js puts `true` here for the module
 * named products-dot. The integers are the same either way.
 */
export const DOT_ADD: bool = false;
