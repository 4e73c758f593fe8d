// Qwen2 and Qwen2.5: biases on q, k and v, optional windows in the upper layers.

import type { Architecture } from "./architecture.js";
import { upperWindows } from "./windows.js";

export const qwen2: Architecture = {
  modelType: "qwen2",
  className: "Qwen2ForCausalLM",
  attentionBias: "qkv",
  mlpBias: "none",
  headNorms: false,
  defaultHeadDim: "split",
  defaultRopeTheta: 10_000,
  defaultBosId: null,
  defaultEosId: null,
  windows: upperWindows,
  experts: null,
};
