// A model so small that a thousand positions of it take no time: for tests in which length and
// windows matter and size does not.

import { type SyntheticModel, smallLlama } from "../support/synthetic-checkpoint.js";

export const tiny: SyntheticModel = {
  ...smallLlama,
  architecture: "mistral",
  vocab: 64,
  hidden: 48,
  heads: 3,
  kvHeads: 1,
  headDim: 16,
  intermediate: 96,
  maxPositions: 1024,
};
