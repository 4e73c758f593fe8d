/**
 * Whether these are the modules of which V8 may join neighbouring operations into ones of 256 bits
 * (src/backend/cpu/wide-simd.ts): then four results are computed first and stored last, which everywhere else costs
 * more registers than there are. scripts/build-wasm.js puts `true` here for the modules named products.
 */
export const JOINED: bool = false;
