// Mixtral: Mistral with eight experts in place of each MLP. Planned, not run.

import type { Architecture } from "./architecture.js";
import { mistral } from "./mistral.js";
import { sameWindow } from "./windows.js";

export const mixtral: Architecture = {
  ...mistral,
  modelType: "mixtral",
  className: "MixtralForCausalLM",
  defaultRopeTheta: 1_000_000,
  windows: sameWindow(null),
  experts: {
    router: "block_sparse_moe.gate",
    expert: "block_sparse_moe.experts",
    gate: "w1",
    up: "w3",
    down: "w2",
    countKey: "num_local_experts",
    perTokenKey: "num_experts_per_tok",
    sizeKey: "intermediate_size",
    shared: null,
    isSparse: () => true,
  },
};
