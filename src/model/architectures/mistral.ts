// Mistral: Llama with one sliding window for all layers (later versions: none), and often a
// head size that is not hidden size / heads.

import type { Architecture } from "./architecture.js";
import { sameWindow } from "./windows.js";

export const mistral: Architecture = {
  modelType: "mistral",
  className: "MistralForCausalLM",
  attentionBias: "none",
  mlpBias: "none",
  headNorms: false,
  defaultHeadDim: "split",
  defaultRopeTheta: 10_000,
  defaultBosId: 1,
  defaultEosId: 2,
  windows: sameWindow(4096),
  experts: null,
};
