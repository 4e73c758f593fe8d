// Structures that kernels/linear_chain.cu and chain_layers.cu take, in pieces; chain-parameters.ts puts them together.

import { layout } from "../launch/parameter-layout.js";

/** linear_chain.cu, chain_layers.cu: first these, then CHAIN_SHAPE of each of four linears. */
export const CHAIN = layout("ChainBuffers", {
  residual: "u64",
  sums: "u64",
  gated: "u64",
  pieces: "u64",
  epochs: "u64",
  eps: "f32",
  firstLink: "i32",
  links: "i32",
  layers: "i32",
  stages: "i32",
  stageMagic: "i32",
  xAt: "i32",
  spansAt: "i32",
  partialAt: "i32",
  xPitch: "i32",
  flying: "i32",
  flyingTiles: "i32",
});

export const CHAIN_SHAPE = layout("ChainShape", {
  n0: "i32",
  n1: "i32",
  n2: "i32",
  k: "i32",
  each: "i32",
  more: "i32",
  piecesEach: "i32",
  piecesMore: "i32",
});

/** linear_chain.cu, then CHAIN_LAYER of two layers. */
export const CHAIN_ENDS = layout("ChainEnds", {
  attention: "u64",
  y0: "u64",
  y1: "u64",
  y2: "u64",
});

/** chain_layers.cu, then CHAIN_LAYER of its layers. */
export const CHAIN_ATTENTION = layout("ChainAttention", {
  table: "u64",
  position: "u64",
  heads: "u64",
  gathered: "u64",
  parts: "u64",
  queryHeads: "i32",
  kvHeads: "i32",
  group: "i32",
  mostParts: "i32",
  scale: "f32",
  headEps: "f32",
});

export const CHAIN_LAYER = layout("ChainLayer", {
  o: "u64",
  gate: "u64",
  up: "u64",
  down: "u64",
  q: "u64",
  k: "u64",
  v: "u64",
  oBias: "u64",
  gateBias: "u64",
  upBias: "u64",
  downBias: "u64",
  qBias: "u64",
  kBias: "u64",
  vBias: "u64",
  inNorm: "u64",
  norm: "u64",
  qNorm: "u64",
  kNorm: "u64",
  kCache: "u64",
  vCache: "u64",
  pages: "u64",
  window: "i32",
  unused: "i32",
});

/** linear_chain_rows.cu: behind CHAIN_SHAPE of each of four linears; then CHAIN_LAYER of two layers. */
export const CHAIN_ROWS = layout("ChainRows", {
  residual: "u64",
  attention: "u64",
  y0: "u64",
  y1: "u64",
  y2: "u64",
  carried: "u64",
  left: "u64",
  normed: "u64",
  squares: "u64",
  gated: "u64",
  pieces: "u64",
  epochs: "u64",
  eps: "f32",
  m: "i32",
  firstLink: "i32",
  layers: "i32",
  stages: "i32",
  stageMagic: "i32",
  xAt: "i32",
  sumsAt: "i32",
  flying: "i32",
  splitBits: "i32",
});
