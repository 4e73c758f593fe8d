// Qwen3: no biases, RMS norms over the heads of q and k, heads of 128 whatever the hidden size.

import type { Architecture } from "./architecture.js";
import { upperWindows } from "./windows.js";

export const qwen3: Architecture = {
  modelType: "qwen3",
  className: "Qwen3ForCausalLM",
  attentionBias: "config",
  mlpBias: "none",
  headNorms: true,
  defaultHeadDim: 128,
  defaultRopeTheta: 10_000,
  defaultBosId: null,
  defaultEosId: null,
  windows: upperWindows,
  experts: null,
};
