// Llama 1, 2, 3 and everything saved under that name: the plain case.

import type { Architecture } from "./architecture.js";
import { noWindows } from "./windows.js";

export const llama: Architecture = {
  modelType: "llama",
  className: "LlamaForCausalLM",
  attentionBias: "config",
  mlpBias: "config",
  headNorms: false,
  defaultHeadDim: "split",
  defaultRopeTheta: 10_000,
  defaultBosId: 1,
  defaultEosId: 2,
  windows: noWindows,
  experts: null,
};
